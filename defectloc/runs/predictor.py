"""A finished run as it was last post-processed: photographs in, probabilities, verdicts, maps and boxes out."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from defectloc.data.masks import read_mask
from defectloc.data.resize import resize
from defectloc.deployment.files import is_exported
from defectloc.deployment.model import Parts
from defectloc.errors import DefectlocError
from defectloc.files import digest_of
from defectloc.localization.maps import Grid
from defectloc.localization.scores import top_k_mean
from defectloc.model import device as devices
from defectloc.model import weights
from defectloc.model.levels import Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import Novelty
from defectloc.model.predict import class_maps_of_features
from defectloc.model.trunk import Trunk
from defectloc.model.winograd import with_winograd
from defectloc.runs.bank import load_bank, load_novelty
from defectloc.runs.directory import CHECKPOINT, Run
from defectloc.runs.exported import ExportedModel
from defectloc.runs.fusion import Fusion, load_fusion
from defectloc.runs.maps import kept_ignore_mask
from defectloc.runs.photographs import PhotographModel

# Of the values of a run's maps, that which gets full colour.
FULL_COLOUR = 0.995


class Predictor(PhotographModel):
    """The network, memory bank, patch head, decision and localizer of a run, loaded once."""

    def __init__(self, run: Run, device: str = "cpu") -> None:
        """Raises DefectlocError where the run was never localised, or a part of it is not what it wrote."""
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
        # On a GPU cuDNN chooses, and in bfloat16 the transforms would amplify the rounding.
        is_plain = (device, precision) == ("cpu", "float32")
        self._network = with_winograd(self._classifier) if is_plain else self._classifier
        self._trunk = Trunk(self._network, device, precision)
        self._bank: MemoryBank | None = None
        self._novelty: Novelty | None = None
        self._fusion: Fusion | None = None
        self._levels: list[Level] = []
        kinds = {self.kind, decision.score}
        if "fusion" in kinds:
            product = run.product("fusion")
            self._load_bank(product.folder.with_name(product.made_from["memory"]), device)
            assert self._bank is not None
            self._fusion = load_fusion(product.folder, self._bank)
        elif "memory" in kinds:
            self._load_bank(run.product("memory").folder, device)
        maps = run.maps(self.kind)
        self.grid: Grid = maps.grid
        values = np.concatenate([cells.ravel() for cells in maps.cells.values()])
        self.scale = (0.0, max(float(np.quantile(values, FULL_COLOUR)), 1e-6))

    def _load_bank(self, folder: Path, device: str) -> None:
        self._bank, self._levels = load_bank(folder, device)
        self._novelty = load_novelty(folder)

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
        )

    def _decided(self, images: Sequence[NDArray[np.uint8]]) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        table, maps = self._scores_and_maps(images)
        return self.decision.apply(table), maps

    def _scores_and_maps(self, images: Sequence[NDArray[np.uint8]]) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """Give what the decision is made of and the novelty, one row per image, and the maps `(N, h, w)`."""
        level = self._classifier.level
        of_class = [level] if self._has_class_network else []
        resized = [resize(image, self.image_size) for image in images]
        found = self._trunk(resized, list(dict.fromkeys([*of_class, *self._levels])))
        table, maps = pd.DataFrame({"log_odds": np.nan}, index=range(len(images))), {}
        if self._has_class_network:
            maps["cam"] = class_maps_of_features(self._network, found[level])
            table["log_odds"] = maps["cam"].astype(np.float64).mean((1, 2))
        levels = [found[each] for each in self._levels]
        if self._bank is not None:
            maps["memory"] = self._bank.distances(levels)
        if self._novelty is not None:
            table["novelty"] = self._novelty(levels)
        if self._fusion is not None:
            maps["fusion"] = self._fusion.fuse(levels, maps["memory"])
        if self.decision.score in maps:
            table["map_score"] = top_k_mean(maps[self.decision.score])
        return table, maps[self.kind]


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
