"""The score of an image: its map's score and the class network's log-odds, weighted by what validation images show."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from defectloc.localization.thresholds import by_max_overkill_rate, checked_scores

# Share of good images that may lie above log-odds 0 where no defective image tells where to cut.
OVERKILL = 0.05
# The class network's share where labels do not tell which counts more: it has seen whole images alone, and misses types
# of defect that it was not shown more often than the map does.
OF_CLASS = 0.5
# Quantiles whose distances are a standard deviation each where values are normal.
SPREAD = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class ScoreWeights:
    """A score as `of_map * map_score + of_class * log_odds + bias`, and the sentence that says where it comes from."""

    of_map: float
    of_class: float
    bias: float
    sentence: str
    fallback: bool = False

    def __call__(self, map_score: ArrayLike | None, log_odds: ArrayLike | None) -> NDArray[np.float64]:
        """Return the scores `(N,)` of images with these values `(N,)`; one that counts nothing may be None."""
        given = [np.asarray(values, dtype=np.float64) for values in (map_score, log_odds) if values is not None]
        total = np.full(given[0].shape, self.bias)
        for weight, values in ((self.of_map, map_score), (self.of_class, log_odds)):
            if weight != 0:
                total += weight * np.asarray(values, dtype=np.float64)
        return total


# Values that differ by less are rounding, and a weight that is one over it may be infinite.
TINY = 1e-12
CLASS_ALONE = ScoreWeights(0.0, 1.0, 0.0, "The class network's log-odds.")


def by_good(labels: ArrayLike, map_score: ArrayLike) -> ScoreWeights:
    """Return standard deviations of good images above the value that `OVERKILL` of them exceed.

    Labels 0/1 and top-k means `(N,)` of the validation split; no defective image is needed. Without a good image the
    values are taken unchanged. Raises DefectlocError for NaN and infinities.
    """
    truth, values = checked_scores(labels, map_score)
    good = values[~truth]
    if len(good) == 0:
        sentence = "The validation split has no good image to scale the score by; it is used unchanged."
        return ScoreWeights(1.0, 0.0, 0.0, sentence, fallback=True)
    sd = float(good.std()) if good.std() > TINY else 1.0
    zero = by_max_overkill_rate(np.zeros(len(good)), good, OVERKILL).value
    sentence = f"Standard deviations above the value that {OVERKILL:.0%} of {len(good)} good validation images exceed."
    return ScoreWeights(1 / sd, 0.0, -zero / sd, sentence)


def by_labels(labels: ArrayLike, map_score: ArrayLike, log_odds: ArrayLike) -> ScoreWeights:
    """Return the logistic regression of validation labels `(N,)` on map score and class log-odds, each `(N,)`.

    Both are standardised by quantiles, the class network's further scaled by `OF_CLASS`, and the weights' squares
    penalised, so that few labels leave most to the map, and an uninformative score gets a weight near 0 (stacking,
    Wolpert, Neural Networks 1992). Neither weight is negative, and both classes weigh the same. Needs both classes.
    Raises DefectlocError for NaN and infinities.
    """
    truth, first = checked_scores(labels, map_score)
    _, second = checked_scores(labels, log_odds)
    both = np.stack([first, second], 1)
    # Not by the standard deviation: a few images of very high log-odds would squeeze all others together.
    low, middle, high = np.quantile(both, SPREAD, axis=0)
    spread = np.where(high - low > TINY, (high - low) / 2, np.where(both.std(0) > TINY, both.std(0), 1.0))
    mean, sd = middle, spread / np.array([1.0, OF_CLASS])
    used = [0, 1]
    while True:
        model = LogisticRegression(class_weight="balanced").fit(((both - mean) / sd)[:, used], truth)
        if len(used) == 1 or model.coef_[0].min() >= 0:
            break
        used = [used[int(model.coef_[0].argmax())]]
    weights = np.zeros(2)
    weights[used] = np.clip(model.coef_[0], 0, None) / sd[used]
    bias = float(model.intercept_[0] - (weights * mean).sum())
    sentence = f"Logistic regression of {len(first)} validation labels on the map's score and the class log-odds."
    return ScoreWeights(float(weights[0]), float(weights[1]), bias, sentence)
