"""Choose the decision threshold on the validation split; an image scored strictly above it is predicted defective."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError

# Balanced accuracies that differ by less count as equal: one image of fifty of a class.
SLACK = 0.01


@dataclass(frozen=True)
class Chosen:
    """A threshold, the sentence that says how it was found, and where a review band ends, if that is above it.

    Up to `value` a part is good, above `upper` it is defective, between them a human decides.
    """

    value: float
    sentence: str
    upper: float | None = None


class NoThresholdError(Exception):
    """The validation split tells no threshold; the text says why, without a full stop."""


def checked_share(value: float, name: str) -> float:
    """Return a share in [0, 1]; any other number raises DefectlocError by its name."""
    if not 0 <= value <= 1:
        raise DefectlocError(f"{name}={value} is not a share: give a number from 0 to 1.")
    return float(value)


def checked_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels `(N,)` as booleans (True = defective) and finite scores `(N,)`; else raise DefectlocError."""
    values, classes = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or classes.shape != values.shape:
        raise DefectlocError(f"Labels {classes.shape} and scores {values.shape} must be two lists of one length.")
    if not np.isin(classes, [0, 1]).all():
        raise DefectlocError("Labels must be 0 (good) or 1 (defective).")
    if not np.isfinite(values).all():
        raise DefectlocError("A score is NaN or infinite: check the model or the file it came from.")
    return classes.astype(bool), values


def classes_present(truth: NDArray[np.bool_]) -> str:
    """Return, for a sentence, which class is missing from labels `(N,)` that do not hold both."""
    return "no image" if len(truth) == 0 else ("no good image" if truth.all() else "no defective image")


def by_balanced_accuracy(labels: ArrayLike, scores: ArrayLike) -> Chosen:
    """Return the middle of the widest interval of thresholds whose balanced accuracy is at most `SLACK` below the best.

    Labels `(N,)` 0/1, scores `(N,)` of any unit. Among intervals of one width the lowest, with the fewest escapes.
    Raises NoThresholdError for one class only and where no cut is better than chance, DefectlocError for NaN and
    infinities.
    """
    truth, values = checked_scores(labels, scores)
    if truth.all() or not truth.any():
        raise NoThresholdError(f"The validation split has {classes_present(truth)}")
    bad, good = np.sort(values[truth]), np.sort(values[~truth])
    levels = np.unique(values)
    caught = 1 - np.searchsorted(bad, levels[1:]) / len(bad)
    passed = np.searchsorted(good, levels[1:]) / len(good)
    balanced = (caught + passed) / 2
    if len(levels) == 1 or balanced.max() <= 0.5 + 1e-12:
        raise NoThresholdError("No threshold on the validation scores does better than chance")
    # Of thresholds that hardly differ in what they count, the one farthest from where it changes.
    near = (balanced >= balanced.max() - SLACK - 1e-12) & (balanced > 0.5 + 1e-12)
    as_good = np.concatenate([[False], near, [False]])
    begins, ends = np.flatnonzero(~as_good[:-1] & as_good[1:]), np.flatnonzero(as_good[:-1] & ~as_good[1:])
    widest = int(np.argmax(levels[ends] - levels[begins]))
    value = middle(levels[begins[widest]], levels[ends[widest]])
    reached = float(balanced[np.searchsorted(levels, value, side="right") - 1])
    return Chosen(
        value,
        f"Balanced accuracy {reached:.3f} on the {len(values)} validation images; the best of any threshold is "
        f"{balanced.max():.3f}.",
    )


def by_max_escape_rate(labels: ArrayLike, scores: ArrayLike, rate: float) -> Chosen:
    """Return the highest threshold at which at most a share `rate`, in [0, 1], of validation defects escapes.

    Labels `(N,)` 0/1, scores `(N,)` of any unit. The threshold lies in the middle between the lowest defect that must
    be caught and the next lower score. Raises NoThresholdError without a defective image, DefectlocError for a rate
    outside [0, 1], NaN and infinities.
    """
    checked_share(rate, "decision.max_escape_rate")
    truth, values = checked_scores(labels, scores)
    bad = np.sort(values[truth])
    if len(bad) == 0:
        raise NoThresholdError(f"The validation split has {classes_present(truth)}")
    allowed = int(np.floor(rate * len(bad) + 1e-9))
    value = float(values.max()) if allowed == len(bad) else below(bad[allowed], values)
    escapes = int((bad <= value).sum())
    return Chosen(value, f"{escapes} of {len(bad)} validation defects escape; at most {rate:.1%} may.")


def by_max_overkill_rate(labels: ArrayLike, scores: ArrayLike, rate: float) -> Chosen:
    """Return the lowest threshold at which at most a share `rate`, in [0, 1], of good validation images is rejected.

    Labels `(N,)` 0/1, scores `(N,)` of any unit. The threshold lies in the middle between the highest good image that
    must pass and the next higher score. Raises NoThresholdError without a good image, DefectlocError for a rate outside
    [0, 1], NaN and infinities.
    """
    checked_share(rate, "decision.max_overkill_rate")
    truth, values = checked_scores(labels, scores)
    good = np.sort(values[~truth])
    if len(good) == 0:
        raise NoThresholdError(f"The validation split has {classes_present(truth)}")
    allowed = int(np.floor(rate * len(good) + 1e-9))
    if allowed == len(good):
        value = float(np.nextafter(np.float32(values.min()), -np.inf))
    else:
        edge = good[len(good) - 1 - allowed]
        higher = values[values > edge]
        value = middle(float(edge), float(higher.min())) if len(higher) else float(edge)
    overkill = int((good > value).sum())
    return Chosen(value, f"{overkill} of {len(good)} good validation images are rejected; at most {rate:.1%} may be.")


def review_band(labels: ArrayLike, scores: ArrayLike, max_escape_rate: float, max_overkill_rate: float) -> Chosen:
    """Return the narrowest band outside which both rates hold on the validation split.

    Labels `(N,)` 0/1, scores `(N,)` of any unit, rates in [0, 1]. Where one threshold keeps both rates the band is
    empty, at the middle of all that do. Raises NoThresholdError for one class only, DefectlocError for a rate outside
    [0, 1], NaN and infinities.
    """
    low = by_max_escape_rate(labels, scores, max_escape_rate).value
    high = by_max_overkill_rate(labels, scores, max_overkill_rate).value
    if low >= high:
        between = high + (low - high) / 2
        return Chosen(between, "One threshold keeps both rates on the validation split: nothing to review.", between)
    values = np.asarray(scores, dtype=np.float64)
    share = float(((values > low) & (values <= high)).mean())
    return Chosen(low, f"A share of {share:.3f} of the validation images goes to review.", high)


def below(value: float, others: ArrayLike) -> float:
    """Return the middle between a value and the next lower one of others `(N,)`, or the next number below it."""
    array = np.asarray(others)
    lower = array[array < value]
    return middle(float(lower.max()), float(value)) if len(lower) else float(np.nextafter(np.float32(value), -np.inf))


def middle(low: float, high: float) -> float:
    """Return the middle of two numbers, below the upper one, so that the upper one lies strictly above it."""
    found = float(low + (high - low) / 2)
    return found if found < high else float(low)
