"""Make the probability of a defect mean what it says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.localization.thresholds import checked_scores


def probability(log_odds: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probability of a defect, in [0, 1], for log-odds of any shape divided by a temperature above 0."""
    # tanh cannot overflow, the textbook form of the logistic function can.
    return 0.5 * (1 + np.tanh(np.asarray(log_odds, dtype=np.float64) / (2 * temperature)))


@dataclass(frozen=True)
class Calibration:
    """A temperature, the expected calibration error (share) on validation before and after, and a sentence."""

    temperature: float
    ece_before: float | None
    ece_after: float | None
    sentence: str
    fallback: bool = False


def fit_temperature(labels: ArrayLike, log_odds: ArrayLike, bins: int = 15) -> Calibration:
    """Return the temperature that minimises the mean log-loss of log-odds ``(N,)`` against labels ``(N,)`` 0/1.

    The loss is convex in 1 / T, so the zero of its derivative is bracketed and halved to machine precision (Guo et
    al., "On Calibration of Modern Neural Networks", ICML 2017). Where no finite T > 0 is best the temperature stays 1,
    with a sentence: one class only, every image on its right side of 0 (T would go to 0), or log-odds no better than
    chance (T would go to infinity). Raises DefectlocError for NaN and infinities.
    """
    truth, values = checked_scores(labels, log_odds)
    before = expected_calibration_error(truth, probability(values), bins)
    margins = np.where(truth, values, -values)
    if truth.all() or not truth.any():
        why = "The validation part does not hold both classes"
    elif (margins >= 0).all():
        why = "Every validation image is on its right side, so no temperature is the best"
    elif margins.mean() <= 0:
        why = "The validation log-odds are no better than chance"
    else:
        inverse = _best_inverse(margins)
        after = expected_calibration_error(truth, probability(values, 1 / inverse), bins)
        sentence = (
            f"Temperature {1 / inverse:.3f} from {len(values)} validation images: "
            f"expected calibration error {before:.3f} before, {after:.3f} after."
        )
        return Calibration(1 / inverse, before, after, sentence)
    return Calibration(1.0, before, before, f"{why}; the temperature stays 1.", fallback=True)


def _best_inverse(margins: NDArray[np.float64]) -> float:
    # Scaled so that one bracket suits log-odds of any size; the slope falls in 1 / T from mean(margins) / 2 > 0.
    scale = float(np.abs(margins).max())
    scaled = margins / scale

    def slope(inverse: float) -> float:
        return float((scaled * probability(-scaled * inverse)).mean())

    low, high = 0.0, 1.0
    # Log-odds of 1e-12 of the largest one on the wrong side still bound it; beyond, the optimum means nothing.
    while slope(high) > 0 and high < 1e12:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return (low + high) / 2 / scale


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float | None:
    """Return the mean gap between the probability of a defect and the share of defects, weighted by bin size.

    Labels ``(N,)`` 0/1, probabilities ``(N,)`` in [0, 1], in ``bins`` equally wide bins [a, b) (Naeini et al., AAAI
    2015, binary form); in [0, 1], or None without images. Raises DefectlocError for a probability out of range.
    """
    truth, values = checked_scores(labels, probabilities)
    if bins < 1:
        raise DefectlocError(f"{bins} bins cannot hold a probability: give at least 1.")
    if len(values) == 0:
        return None
    if values.min() < 0 or values.max() > 1:
        raise DefectlocError("A probability lies outside 0 to 1: pass probabilities, not log-odds.")
    of_image = np.minimum((values * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(of_image, truth - values, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))
