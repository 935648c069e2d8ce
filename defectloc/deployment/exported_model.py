"""An exported model, loaded: photographs in, the predictions of its run out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from defectloc.deployment.engines import engines
from defectloc.deployment.files import Exported
from defectloc.deployment.model import INPUT, TILE
from defectloc.errors import DefectlocError
from defectloc.files import CHECKSUM
from defectloc.inference.photograph_model import PhotographModel
from defectloc.localization.maps import Stack, stack
from defectloc.model.levels import Level
from defectloc.model.tiled_levels import Features, levels_of


class ExportedModel(PhotographModel):
    """Graphs that compute scores, verdicts and maps, and the localizer that cuts its maps into boxes."""

    def __init__(self, folder: Path, device: str = "auto", threads: int | None = None) -> None:
        """Raises DefectlocError where the folder is not what was exported, or its runtime is missing."""
        if device not in ("auto", "cpu"):
            raise DefectlocError(f"device={device} is not for exported models, which compute on the CPU; leave it out.")
        exported = Exported.read(folder)
        super().__init__(exported.ignore_mask)
        self.decision, self.localizer, self.grid = exported.decision, exported.localizer, exported.grid
        self.image_size, self.scale = exported.image_size, exported.scale
        self.identity = str(exported.about[CHECKSUM])[:12]
        self.tiling = exported.map_tiling
        self._bank_tiling = exported.tiling
        self._levels = [Level(name) for name in exported.about["levels"]]
        self._engines = engines(exported, threads)

    def _decided(self, images: Sequence[NDArray[np.uint8]]) -> tuple[pd.DataFrame, Stack, list[None]]:
        found: dict[str, list[Any]] = {}
        order: list[int] = []
        # One after the other in tiles, since their levels are large.
        groups = _by_size(images) if self._bank_tiling is None else [[number] for number in range(len(images))]
        for numbers in groups:
            inputs: dict[str, NDArray[Any]] = {INPUT: np.stack([images[number] for number in numbers])}
            if self._bank_tiling is not None:
                joined = levels_of(images[numbers[0]], self._bank_tiling, self._of_tiles, self._levels, 1)
                inputs |= {str(level): values for level, values in joined.items()}
            given = self._engines[-1](inputs)
            for name in given.keys() - {"anomaly_map", "pred_mask"}:
                found.setdefault(name, []).extend(given[name])
            order += numbers
        back = np.argsort(order)
        maps = found.pop("cells")
        values = {name: np.stack(each)[back] for name, each in found.items()}
        table = pd.DataFrame({"log_odds": np.nan}, index=range(len(images)))
        for name in values.keys() & {"log_odds", "novelty"}:
            table[name] = values[name]
        # The graph's own label decides, so that no rounding comes between it and the verdict.
        positive = values["pred_label"].astype(bool)
        decided = self.decision.judged(table, values["score"], values["pred_score"], positive)
        # What guides a map is part of the graph.
        return decided, stack([maps[number] for number in back]), [None] * len(images)

    def _of_tiles(self, tiles: Sequence[torch.Tensor], levels: Sequence[Level]) -> Features:
        found = self._engines[0]({TILE: torch.stack(list(tiles)).numpy()})
        return {level: found[str(level)] for level in levels}


def _by_size(images: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Give the numbers of the images of each size: a graph takes those of one size together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(image.shape, []).append(number)
    return list(groups.values())
