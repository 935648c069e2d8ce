"""The scale on which the score of an image is read: log-odds, or standard deviations of good images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.localization.thresholds import by_max_overkill_rate, checked_scores

# Share of good images that may lie above log-odds 0 where no defective image tells where to cut.
OVERKILL = 0.05


@dataclass(frozen=True)
class ScoreScale:
    """A score as `slope * value + intercept`, and the sentence that says where the two come from."""

    slope: float = 1.0
    intercept: float = 0.0
    sentence: str = "The class network's log-odds."
    fallback: bool = False

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the scores `(N,)` of images with these values `(N,)`."""
        return self.slope * np.asarray(values, dtype=np.float64) + self.intercept


def by_good(labels: ArrayLike, map_score: ArrayLike) -> ScoreScale:
    """Return the scale of standard deviations of good images above the value that `OVERKILL` of them exceed.

    Labels 0/1 and top-k means `(N,)` of the validation split; no defective image is needed. Without a good image the
    values are taken unchanged. Raises DefectlocError for NaN and infinities.
    """
    truth, values = checked_scores(labels, map_score)
    good = values[~truth]
    if len(good) == 0:
        sentence = "The validation split has no good image to scale the score by; it is used unchanged."
        return ScoreScale(1.0, 0.0, sentence, fallback=True)
    sd = float(good.std()) or 1.0
    zero = by_max_overkill_rate(np.zeros(len(good)), good, OVERKILL).value
    sentence = f"Standard deviations above the value that {OVERKILL:.0%} of {len(good)} good validation images exceed."
    return ScoreScale(1 / sd, -zero / sd, sentence)
