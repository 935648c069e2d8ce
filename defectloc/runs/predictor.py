"""A finished run as it was last post-processed: photographs in, probabilities, verdicts, maps and boxes out."""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from defectloc.data.images import read_image, rgb_of_array
from defectloc.data.masks import read_mask
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.files import digest_of
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.maps import Grid, upsample
from defectloc.localization.scores import top_k_mean
from defectloc.model import device as devices
from defectloc.model import weights
from defectloc.model.levels import Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import Novelty
from defectloc.model.predict import class_maps_of_features
from defectloc.model.trunk import Trunk
from defectloc.runs.bank import load_bank, load_novelty
from defectloc.runs.directory import CHECKPOINT, Run
from defectloc.runs.fusion import Fusion, load_fusion
from defectloc.runs.maps import kept_ignore_mask
from defectloc.runs.prediction import UNLIKE, Prediction

# A file, or an array (H, W) or (H, W, 3) of uint8 or uint16.
Photograph: TypeAlias = str | os.PathLike[str] | NDArray[Any]

BATCH_SIZE = 8
# Of the values of a run's maps, that which gets full colour.
FULL_COLOUR = 0.995


class Predictor:
    """The network, memory bank, patch head, decision and localizer of a run, loaded once.

    Nothing of it changes once it is made, so that several threads may predict with one.
    """

    def __init__(self, run: Run, device: str = "cpu") -> None:
        """Raises DefectlocError where the run was never localised, or a part of it is not what it wrote."""
        config, decision, localizer = run.localization_config(), run.decision(), run.localizer()
        if config is None or decision is None or localizer is None:
            raise DefectlocError(f"run={run.folder} was not localised yet; start its fit again.")
        self.decision, self.localizer, self.kind = decision, localizer, str(config.map)
        self.image_size = run.image_size
        self.identity = identity_of(run)
        self._has_class_network = run.has_class_network
        self._classifier = weights.restore(run.folder / CHECKPOINT).to(device)
        self._trunk = Trunk(self._classifier, device, run.record["precision"])
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
        self._ignore_mask = kept_ignore_mask(run)
        # Photographs of one camera have one size.
        self._ignored = lru_cache(maxsize=4)(self._read_ignored)

    def _load_bank(self, folder: Path, device: str) -> None:
        self._bank, self._levels = load_bank(folder, device)
        self._novelty = load_novelty(folder)

    # A text is a sequence of texts as well; the first signature takes it.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: Photograph, batch_size: int = BATCH_SIZE
    ) -> Prediction: ...

    @overload
    def predict(self, images: Sequence[Photograph], batch_size: int = BATCH_SIZE) -> list[Prediction]: ...

    def predict(
        self, images: Photograph | Sequence[Photograph], batch_size: int = BATCH_SIZE
    ) -> Prediction | list[Prediction]:
        """Predict a photograph, or each of a list: files, or arrays `(H, W)` or `(H, W, 3)` of uint8 or uint16.

        Arrays are RGB, of any sizes; 16 bits become 8 by dividing by 257. Of a list `batch_size` are held at once.
        Raises DefectlocError for a file that cannot be read and for arrays of other shapes and types.
        """
        if isinstance(images, str | os.PathLike | np.ndarray):
            return next(self._batch([_rgb(images)]))
        if not isinstance(images, Sequence):
            raise DefectlocError(f"predict takes a path, a NumPy array or a list of them, not {type(images).__name__}.")
        found: list[Prediction] = []
        for start in range(0, len(images), batch_size):
            found += self._batch([_rgb(image) for image in images[start : start + batch_size]])
        return found

    def _batch(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[Prediction]:
        """Predict images `(H, W, 3)` uint8 of any sizes in one batch."""
        table, maps = self._scores_and_maps(images)
        decided = self.decision.apply(table)
        for row, cells, image in zip(decided.itertuples(), maps, images, strict=True):
            size = (image.shape[0], image.shape[1])
            novelty = None if self._novelty is None else float(row.novelty)
            is_unlike = novelty is not None and novelty > 1
            boxes = pd.DataFrame(columns=COLUMNS)
            if row.predicted and not is_unlike:
                boxes = self.localizer.boxes(self._native(cells, size))
            yield Prediction(
                probability=np.nan if is_unlike else float(row.probability),
                verdict=UNLIKE if is_unlike else str(row.verdict),
                score=float(row.score),
                boxes=boxes,
                predicted=int(row.predicted),
                log_odds=float(row.log_odds),
                novelty=novelty,
                cells=cells,
                size=size,
                _to_native=self._native,
            )

    def _native(self, cells: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Give a map `(h, w)` in the pixels of its image; ignored ones have its minimum, as in the run's own maps."""
        values = upsample(cells, size, self.image_size, self.grid)
        return values if self._ignore_mask is None else np.where(self._ignored(size), values.min(), values)

    def _read_ignored(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        assert self._ignore_mask is not None
        return read_mask(self._ignore_mask, size)

    def _scores_and_maps(self, images: Sequence[NDArray[np.uint8]]) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """Give what the decision is made of and the novelty, one row per image, and the maps `(N, h, w)`."""
        level = self._classifier.level
        of_class = [level] if self._has_class_network else []
        resized = [resize(image, self.image_size) for image in images]
        found = self._trunk(resized, list(dict.fromkeys([*of_class, *self._levels])))
        table, maps = pd.DataFrame({"log_odds": np.nan}, index=range(len(images))), {}
        if self._has_class_network:
            maps["cam"] = class_maps_of_features(self._classifier, found[level])
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


def load(path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> Predictor:
    """Load the run directory `path` for prediction on `device`: 'auto', 'cpu', 'cuda' or 'mps'.

    Sets, for the whole process, the modes in which torch gives equal numbers again, and the number of `threads` unless
    that is None. Raises DefectlocError where there is no finished run, or no such device.
    """
    run = Run.open(Path(path))
    chosen = devices.choose(device)
    devices.prepare(chosen, threads or torch.get_num_threads())
    return Predictor(run, chosen)


def identity_of(run: Run) -> str:
    """Hash what predictions of a run depend on: its fit, and what it was last post-processed to."""
    last = run.last_localization()
    assert last is not None
    return digest_of({"files": run.record["files"], "localization": last.name})[:12]


def _rgb(image: Photograph) -> NDArray[np.uint8]:
    return read_image(Path(image)) if isinstance(image, str | os.PathLike) else rgb_of_array(image)
