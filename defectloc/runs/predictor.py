"""A finished run as it was last post-processed: photographs in, probabilities, verdicts, maps and boxes out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from defectloc.data import splits
from defectloc.data.masks import read_mask
from defectloc.data.resize import resize
from defectloc.data.tiles import Tiling
from defectloc.deployment.exported_model import ExportedModel
from defectloc.deployment.files import is_exported
from defectloc.deployment.model import Parts
from defectloc.errors import DefectlocError
from defectloc.files import digest_of
from defectloc.inference.photograph_model import PhotographModel
from defectloc.localization.guided import Guide
from defectloc.localization.maps import Grid, Stack, full_colour, stack
from defectloc.localization.scores import top_k_mean
from defectloc.model import device as devices
from defectloc.model import weights
from defectloc.model.levels import Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import Novelty
from defectloc.model.predict import class_maps_of_features
from defectloc.model.tiled_levels import levels_of
from defectloc.model.trunk import Trunk, for_inference
from defectloc.runs.bank import load_novelty
from defectloc.runs.directory import CHECKPOINT, Run
from defectloc.runs.fusion import Fusion, load_parts
from defectloc.runs.maps import is_guided, kept_ignore_mask
from defectloc.runs.products import bank_folder, tiling_of


class Predictor(PhotographModel):
    """The network, memory bank, patch head, decision and localizer of a run, loaded once."""

    def __init__(self, run: Run, device: str = "cpu") -> None:
        """Raises DefectlocError where the run was never localised, or a part of it is not what it wrote."""
        run = run.pinned()
        config, decision, localizer = run.localization_config(), run.decision(), run.localizer()
        if config is None or decision is None or localizer is None:
            raise DefectlocError(f"run={run.folder} was not localised yet; start its fit again.")
        super().__init__(kept_ignore_mask(run))
        self.decision, self.localizer, self.kind = decision, localizer, str(config.map)
        self.image_size = run.image_size
        self.identity = identity_of(run)
        self._has_class_network = run.has_class_network
        self._classifier = weights.restore(run.folder / CHECKPOINT).to(device)
        precision = run.record["precision"]
        self._network = for_inference(self._classifier, device, precision)
        self._trunk = Trunk(self._network, device, precision)
        self._bank: MemoryBank | None = None
        self._novelty: Novelty | None = None
        self._fusion: Fusion | None = None
        self._levels: list[Level] = []
        self._bank_tiling: Tiling | None = None
        kinds = {self.kind, decision.score}
        if kinds & {"fusion", "memory"}:
            product = run.product("fusion" if "fusion" in kinds else "memory")
            self._bank_tiling = tiling_of(product)
            self._bank, self._levels, self._fusion = load_parts(product, device)
            self._novelty = load_novelty(bank_folder(product))
        maps = run.maps(self.kind)
        self.tiling = tiling_of(maps.product)
        if self._has_class_network or self._bank_tiling is None:
            photographs = run.catalog().query(f"split == '{splits.TRAIN}'")
            ratios = photographs["width"] / photographs["height"]
            self.aspects = (float(ratios.min()), float(ratios.max()))
        self._guided = is_guided(config.upsampling, self.tiling)
        self._batch_size = int(run.record["settings"]["features"]["batch_size"])
        self.grid: Grid = maps.grid
        values = np.concatenate([cells.ravel() for cells in maps.cells.values()])
        self.scale = (0.0, full_colour(values, 0.0))

    def is_small(self, n_pixels: int) -> bool:
        """Tell whether photographs are seen whole, in at most so many pixels."""
        height, width = self.image_size
        return self._bank_tiling is None and height * width <= n_pixels

    def parts(self) -> Parts:
        """Give all that the model is made of, for an export."""
        return Parts(
            classifier=self._classifier,
            image_size=self.image_size,
            kind=self.kind,
            decision=self.decision,
            localizer=self.localizer,
            grid=self.grid,
            scale=self.scale[1],
            has_class_network=self._has_class_network,
            bank=self._bank,
            levels=tuple(self._levels),
            head=None if self._fusion is None else self._fusion.head,
            combination=None if self._fusion is None else self._fusion.combination,
            novelty=self._novelty,
            ignored=None if self.ignore_mask is None else read_mask(self.ignore_mask),
            tiling=self._bank_tiling,
            guided=self._guided,
        )

    def _decided(self, images: Sequence[NDArray[np.uint8]]) -> tuple[pd.DataFrame, Stack, Sequence[Guide | None]]:
        tiled = self._bank_tiling is not None and not self._has_class_network
        seen = [] if tiled else [resize(image, self.image_size) for image in images]
        table, maps = self._scores_and_maps(images, seen)
        guides: Sequence[Guide | None] = [None] * len(images)
        if self._guided:
            guides = [(each / 255).permute(1, 2, 0).contiguous().numpy() for each in seen]
        return self.decision.apply(table), maps, guides

    def _scores_and_maps(
        self, images: Sequence[NDArray[np.uint8]], seen: Sequence[torch.Tensor]
    ) -> tuple[pd.DataFrame, Stack]:
        """Give what the decision is made of and the novelty, one row per image, and the maps `(N, h, w)`.

        `seen` are the images as they are seen whole; none where only tiles are.
        """
        level = self._classifier.level
        of_class = [level] if self._has_class_network else []
        of_bank = self._levels if self._bank_tiling is None else []
        found: dict[Level, np.ndarray] = {}
        if of_class or of_bank:
            found = self._trunk(seen, list(dict.fromkeys([*of_class, *of_bank])))
        table = pd.DataFrame({"log_odds": np.nan}, index=range(len(images)))
        maps: dict[str, Stack] = {}
        if self._has_class_network:
            of_classes = class_maps_of_features(self._network, found[level])
            table["log_odds"] = of_classes.astype(np.float64).mean((1, 2))
            maps["cam"] = of_classes
        if self._bank_tiling is None:
            of_patches, novelty = self._patch_maps([found[each] for each in self._levels])
            maps |= of_patches
        else:
            # One after the other, since the levels of a photograph in tiles are large and of its own shape.
            singles = [self._patch_maps(self._tiled_levels(image, self._bank_tiling)) for image in images]
            maps |= {kind: stack(single[kind][0] for single, _ in singles) for kind in singles[0][0]}
            novelty = None if self._novelty is None else np.concatenate([each for _, each in singles])
        if novelty is not None:
            table["novelty"] = novelty
        if self.decision.score in maps:
            table["map_score"] = top_k_mean(maps[self.decision.score])
        return table, maps[self.kind]

    def _tiled_levels(self, image: NDArray[np.uint8], tiling: Tiling) -> list[NDArray]:
        found = levels_of(image, tiling, self._trunk, self._levels, self._batch_size)
        return [found[level] for level in self._levels]

    def _patch_maps(self, levels: list[NDArray]) -> tuple[dict[str, NDArray], Any]:
        """Give the maps `(N, h, w)` of bank and fusion and the novelty `(N,)`, as far as the model has them."""
        maps: dict[str, NDArray] = {}
        if self._bank is not None:
            maps["memory"] = self._bank.distances(levels)
        if self._fusion is not None:
            maps["fusion"] = self._fusion.fuse(levels, maps["memory"])
        return maps, None if self._novelty is None else self._novelty(levels)


def load(path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> Predictor | ExportedModel:
    """Load a run directory or an exported model for prediction on `device`: 'auto', 'cpu', 'cuda' or 'mps'.

    Sets, for the whole process, the modes in which torch gives equal numbers again, and the number of `threads` unless
    that is None; an exported model has threads of its own, computes on the CPU, and needs neither. Raises
    DefectlocError where there is no finished run and no exported model, or no such device.
    """
    folder = Path(path).expanduser()
    if is_exported(folder):
        return ExportedModel(folder, device, threads)
    run = Run.open(folder)
    chosen = devices.choose(device)
    devices.prepare(chosen, threads or torch.get_num_threads())
    return Predictor(run, chosen)


def identity_of(run: Run) -> str:
    """Hash what predictions of a run depend on: its fit, and what it was last post-processed to."""
    last = run.last_localization()
    assert last is not None
    return digest_of({"files": run.record["files"], "localization": last.name})[:12]
