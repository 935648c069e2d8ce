"""From scores to probabilities that are right as often as they say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit

from defectloc.errors import DefectlocError
from defectloc.localization.thresholds import checked_scores, classes_present

# Below this slope per standard deviation of the scores they tell the classes no better than chance.
_MIN_SLOPE = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Log-odds as `slope * score + intercept`, and the share of defective images (prevalence) for which they hold.

    Without arguments the score's own log-odds, for classes of equal size, which all scores here are fitted for.
    Expected calibration error (15 bins) and Brier score, both in [0, 1], are those of held-out validation images
    before and after; None where they were not measured.
    """

    slope: float = 1.0
    intercept: float = 0.0
    prevalence: float = 0.5
    sentence: str = "Not calibrated: the probability holds for as many defective as good parts."
    fallback: bool = False
    ece_before: float | None = None
    ece_after: float | None = None
    brier_before: float | None = None
    brier_after: float | None = None

    def log_odds(self, scores: ArrayLike, prevalence: float | None = None) -> NDArray[np.float64]:
        """Return calibrated log-odds for scores of any shape, re-weighted to a stated prevalence where one is given.

        By Bayes' rule a change of the classes' shares alone shifts all log-odds by the same amount (Saerens et al.,
        Neural Computation 2002).
        """
        return self.slope * np.asarray(scores, dtype=np.float64) + self.intercept + self._shift(prevalence)

    def score_at(self, probability: float, prevalence: float | None = None) -> float:
        """Return the score whose probability is the given one, in (0, 1)."""
        return (float(logit(probability)) - self.intercept - self._shift(prevalence)) / self.slope

    def _shift(self, prevalence: float | None) -> float:
        return 0.0 if prevalence is None else float(logit(prevalence) - logit(self.prevalence))


def fit_platt(labels: ArrayLike, scores: ArrayLike) -> Calibration:
    """Return the slope and intercept that make scores `(N,)` log-odds at the prevalence of the labels `(N,)` 0/1.

    Logistic regression of Platt's smoothed targets, (n + 1) / (n + 2) for n defective images and 1 / (m + 2) for m good
    ones, without another penalty (Platt, "Probabilistic Outputs for Support Vector Machines", 1999): the targets bound
    the slope where the scores separate the classes completely. Where the slope would not be above 0 the scores tell
    nothing: it is 1 and only the intercept is fitted. One class only tells no prevalence either: nothing is calibrated.
    Raises DefectlocError for NaN and infinities.
    """
    truth, values = checked_scores(labels, scores)
    n_bad, n_good = int(truth.sum()), int((~truth).sum())
    if not n_bad or not n_good:
        why = f"The validation split has {classes_present(truth)}"
        return Calibration(sentence=f"{why}; the probability is not calibrated.", fallback=True)
    prevalence = n_bad / len(truth)
    targets = np.where(truth, (n_bad + 1) / (n_bad + 2), 1 / (n_good + 2))
    mean, sd = float(values.mean()), float(values.std())
    slope, intercept = _logistic_regression((values - mean) / sd, targets) if sd > 0 else (0.0, 0.0)
    if slope < _MIN_SLOPE:
        intercept = _intercept(values, float(targets.mean()))
        sentence = "The validation scores tell the classes no better than chance; only the intercept is calibrated."
        return Calibration(1.0, intercept, prevalence, sentence, fallback=True)
    sentence = f"Platt scaling on {len(truth)} validation images, of which a share of {prevalence:.3f} is defective."
    return Calibration(slope / sd, intercept - slope * mean / sd, prevalence, sentence)


def _logistic_regression(scores: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and intercept with the least mean log-loss of soft targets in (0, 1); the loss is convex."""
    design = np.stack([scores, np.ones_like(scores)], 1)

    def loss(parameters: NDArray) -> float:
        z = design @ parameters
        return float((np.logaddexp(0, z) - targets * z).mean())

    def gradient(parameters: NDArray) -> NDArray:
        return design.T @ (expit(design @ parameters) - targets) / len(targets)

    def curvature(parameters: NDArray) -> NDArray:
        p = expit(design @ parameters)
        return (design * (p * (1 - p))[:, None]).T @ design / len(targets)

    start = np.array([0.0, logit(targets.mean())])
    options = {"gtol": 1e-10, "max_trust_radius": 1e9}
    found = minimize(loss, start, method="trust-exact", jac=gradient, hess=curvature, options=options).x
    return float(found[0]), float(found[1])


def _intercept(scores: NDArray[np.float64], mean_target: float) -> float:
    """Return the shift of log-odds at which their mean probability is the mean target, in (0, 1)."""
    middle = float(logit(mean_target))
    low, high = middle - float(scores.max()) - 1, middle - float(scores.min()) + 1
    return float(brentq(lambda shift: float(expit(scores + shift).mean()) - mean_target, low, high))


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float | None:
    """Return the mean gap between the probability of a defect and the share of defects, weighted by bin size.

    Labels `(N,)` 0/1, probabilities `(N,)` in [0, 1], in `bins` equally wide bins [a, b) (Naeini et al., AAAI 2015,
    binary form); in [0, 1], or None without images. Raises DefectlocError for a probability out of range.
    """
    truth, values = _checked_probabilities(labels, probabilities)
    if bins < 1:
        raise DefectlocError(f"{bins} bins cannot hold a probability: give at least 1.")
    if len(values) == 0:
        return None
    of_image = np.minimum((values * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(of_image, truth - values, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Return the mean squared difference of probability and label, both `(N,)`, in [0, 1]; None without images.

    Brier, Monthly Weather Review 1950, binary form. Raises DefectlocError for a probability out of range.
    """
    truth, values = _checked_probabilities(labels, probabilities)
    return float(((values - truth) ** 2).mean()) if len(values) else None


def _checked_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.bool_], NDArray]:
    truth, values = checked_scores(labels, probabilities)
    if len(values) and (values.min() < 0 or values.max() > 1):
        raise DefectlocError("A probability lies outside 0 to 1: pass probabilities, not log-odds.")
    return truth, values
