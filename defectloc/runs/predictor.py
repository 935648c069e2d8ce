"""A finished run as it was last post-processed: new images in, probabilities, verdicts, maps and boxes out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.maps import Grid, upsample
from defectloc.localization.scores import top_k_mean
from defectloc.model import weights
from defectloc.model.levels import Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.predict import class_maps_of_features
from defectloc.model.trunk import Trunk
from defectloc.runs.bank import load_bank
from defectloc.runs.directory import CHECKPOINT, Run
from defectloc.runs.fusion import Fusion, load_fusion

# Of the values of a run's maps, that which gets full colour.
FULL_COLOUR = 0.995


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a run says of one image: `map` `(h, w)` is at grid resolution, `boxes` in native pixels.

    `log_odds` are the class network's (NaN without one), `score` is what the decision rests on, in log-odds.
    """

    log_odds: float
    score: float
    probability: float
    predicted: int
    verdict: str
    map: np.ndarray
    boxes: pd.DataFrame


class Predictor:
    """The network, memory bank, patch head, decision and localizer of a run, loaded once."""

    def __init__(self, run: Run, device: str) -> None:
        """Raises DefectlocError where the run was never localised, or a part of it is not what it wrote."""
        config, decision, localizer = run.localization_config(), run.decision(), run.localizer()
        if config is None or decision is None or localizer is None:
            raise DefectlocError(f"run={run.folder} was not localised yet; start its fit again.")
        self.decision, self.localizer, self.kind = decision, localizer, str(config.map)
        self.image_size = run.image_size
        self._has_class_network = run.has_class_network
        self._classifier = weights.restore(run.folder / CHECKPOINT).to(device)
        self._trunk = Trunk(self._classifier, device, run.record["precision"])
        self._bank: MemoryBank | None = None
        self._fusion: Fusion | None = None
        self._levels: list[Level] = []
        kinds = {self.kind, decision.score}
        if "fusion" in kinds:
            folder = run.product("fusion").folder
            self._bank, self._levels = load_bank(folder.with_name(run.product("fusion").made_from["memory"]), device)
            self._fusion = load_fusion(folder, self._bank)
        elif "memory" in kinds:
            self._bank, self._levels = load_bank(run.product("memory").folder, device)
        maps = run.maps(self.kind)
        self.grid: Grid = maps.grid
        values = np.concatenate([cells.ravel() for cells in maps.cells.values()])
        self.scale = (0.0, max(float(np.quantile(values, FULL_COLOUR)), 1e-6))

    def predict_arrays(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Predict images `(H, W, 3)` uint8 of any sizes in one batch."""
        table, maps = self._scores_and_maps(images)
        decided = self.decision.apply(table)
        predictions = []
        for row, cells, image in zip(decided.itertuples(), maps, images, strict=True):
            boxes = pd.DataFrame(columns=COLUMNS)
            if row.predicted:
                boxes = self.localizer.boxes(self.native(cells, image))
            predictions.append(
                Prediction(
                    float(row.log_odds),
                    float(row.score),
                    float(row.probability),
                    int(row.predicted),
                    str(row.verdict),
                    cells,
                    boxes,
                )
            )
        return predictions

    def native(self, cells: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Give a map `(h, w)` in the pixels of its image `(H, W, 3)`: `(H, W)`."""
        return upsample(cells, (image.shape[0], image.shape[1]), self.image_size, self.grid)

    def _scores_and_maps(self, images: Sequence[np.ndarray]) -> tuple[pd.DataFrame, np.ndarray]:
        """Give what the decision is made of, one row per image, and the maps `(N, h, w)`."""
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
        if self._fusion is not None:
            maps["fusion"] = self._fusion.fuse(levels, maps["memory"])
        if self.decision.score in maps:
            table["map_score"] = top_k_mean(maps[self.decision.score])
        return table, maps[self.kind]
