"""What is said of one photograph."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# The verdict on a photograph that no other verdict can be relied on for.
UNLIKE = "unlike training"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a run says of one photograph of `size` (height, width).

    `probability` of a defect lies in [0, 1]; `verdict` is "good", "defective", or, with a review band, "review";
    `score` is what they rest on, in log-odds, and `predicted` 1 above its threshold. `boxes` has a row per region with
    `x0, y0, x1, y1` (half-open, in the photograph's pixels), `score` (the map's maximum) and `score_mean`; none where
    the image is predicted good. `log_odds` are the class network's, NaN without one.

    `unlike_training` is true for a photograph unlike all that the model was trained on: its `novelty` is above 1, its
    verdict "unlike training", its probability NaN and its boxes none. Both are None where neither map nor decision
    rests on a memory bank.

    `cells` `(h, w)` is the anomaly map as it was computed, or as an exported model gives it.
    """

    probability: float
    verdict: str
    score: float
    boxes: pd.DataFrame
    predicted: int
    log_odds: float
    novelty: float | None
    cells: NDArray[np.float32]
    size: tuple[int, int]
    _native: Callable[[], NDArray[np.float32]]

    @property
    def unlike_training(self) -> bool | None:
        """Tell whether the photograph is unlike all that the model was trained on."""
        return None if self.novelty is None else self.novelty > 1

    @cached_property
    def anomaly_map(self) -> NDArray[np.float32]:
        """Give the heat map `(H, W)` in the photograph's pixels, made when first asked for."""
        return self._native()
