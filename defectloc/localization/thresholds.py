"""Choose thresholds on the validation part; everything strictly above a threshold is hot, or defective."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.localization.maps import finite_map


@dataclass(frozen=True)
class Chosen:
    """A threshold, the sentence that says how it was found, and whether it is only the fall-back."""

    value: float
    sentence: str
    fallback: bool = False


def _fall_back(value: float, why: str) -> Chosen:
    return Chosen(float(value), f"{why}; the fall-back threshold {value:g} is used.", fallback=True)


def _share(value: float, name: str) -> float:
    if not 0 <= value <= 1:
        raise DefectlocError(f"{name}={value} is not a share: give a number from 0 to 1.")
    return float(value)


def checked_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels ``(N,)`` as booleans (True = defective) and finite scores ``(N,)``; else raise DefectlocError."""
    values, classes = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or classes.shape != values.shape:
        raise DefectlocError(f"Labels {classes.shape} and scores {values.shape} must be two lists of one length.")
    if not np.isin(classes, [0, 1]).all():
        raise DefectlocError("Labels must be 0 (good) or 1 (defective).")
    if not np.isfinite(values).all():
        raise DefectlocError("A score is NaN or infinite: check the model or the file it came from.")
    return classes.astype(bool), values


def good_quantile(maps: Iterable[ArrayLike], q: float, fallback: float) -> Chosen:
    """Return the smallest value that a share q, in [0, 1], of all pixels of good validation maps does not exceed.

    Maps are ``(H, W)`` of any sizes, all normalised alike; no masks are needed. Without a map: the fall-back. Raises
    DefectlocError for NaN and infinities.
    """
    _share(q, "localization.good_quantile")
    values = [finite_map(each).ravel() for each in maps]
    if not values:
        return _fall_back(fallback, "The validation part has no good image to take a quantile from")
    value = float(np.quantile(np.concatenate(values), q, method="inverted_cdf"))
    return Chosen(
        value, f"A share of {q:g} of the pixels of {len(values)} good validation images is at most {value:g}."
    )


def from_masks(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike], fallback: float) -> Chosen:
    """Return the map threshold with the best F1 (and so the best IoU) over all pixels of all validation images.

    Maps ``(H, W)`` and masks ``(H, W)``, nonzero = defect, go in pairs; good images have empty masks. Exact over all
    thresholds. Defect pixels only, or none: the fall-back. Raises DefectlocError where shapes differ.
    """
    positive, negative = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for values, mask in zip(maps, masks, strict=True):
        array, truth = finite_map(values), np.asarray(mask) != 0
        if truth.shape != array.shape:
            raise DefectlocError(f"A map of shape {array.shape} has a mask of shape {truth.shape}: resize one of them.")
        positive.append(array[truth])
        negative.append(array[~truth])
    hot, cold = np.sort(np.concatenate(positive)), np.sort(np.concatenate(negative))
    if len(hot) == 0 or len(cold) == 0:
        return _fall_back(fallback, "The validation masks hold one class of pixels only")
    # Between two defect values more pixels above the threshold are only more false ones, so the best cut is at one.
    levels = np.unique(hot)
    caught = len(hot) - np.searchsorted(hot, levels)
    false = len(cold) - np.searchsorted(cold, levels)
    f1 = 2 * caught / (caught + false + len(hot))
    best = len(f1) - 1 - int(f1[::-1].argmax())
    value = _below(levels[best], hot, cold)
    return Chosen(value, f"Pixel F1 on the validation masks is best, {f1[best]:.3f}, at {value:g}.")


def from_labels(maps: Sequence[ArrayLike], labels: ArrayLike, fallback: float) -> Chosen:
    """Return the map threshold at which "any pixel is hot" has the best balanced accuracy on validation images.

    Maps ``(H, W)`` of any sizes, labels ``(N,)``; no masks are needed. One class only: the fall-back.
    """
    return by_balanced_accuracy(labels, [float(finite_map(each).max()) for each in maps], fallback)


def from_curve(candidates: ArrayLike, score: Callable[[float], float | None], fallback: float) -> Chosen:
    """Return the candidate threshold with the highest score, the middle of the run where several tie in a row.

    For scores that must be tried, as box F1. ``None`` means that a candidate cannot be scored; if all are: the
    fall-back.
    """
    tried = np.unique(np.asarray(candidates, dtype=np.float64))
    scores = np.array([np.nan if (value := score(float(t))) is None else value for t in tried], dtype=np.float64)
    if np.isnan(scores).all():
        return _fall_back(fallback, "No candidate threshold could be scored on the validation part")
    first = int(np.nanargmax(scores))
    last = first
    while last + 1 < len(scores) and scores[last + 1] == scores[first]:
        last += 1
    value = float(tried[(first + last) // 2])
    return Chosen(
        value, f"Of {len(tried)} thresholds {value:g} scores best on the validation part, {scores[first]:.3f}."
    )


def _below(value: float, *others: NDArray) -> float:
    """Return the middle between a value and the next lower one of sorted arrays, or the next number below it."""
    lower = [float(each[i - 1]) for each in others if (i := int(np.searchsorted(each, value))) > 0]
    return _middle(max(lower), float(value)) if lower else float(np.nextafter(np.float32(value), -np.inf))


def _middle(low: float, high: float) -> float:
    # A middle that rounds up to the upper value would no longer let it pass.
    middle = low + (high - low) / 2
    return middle if middle < high else low


def by_balanced_accuracy(labels: ArrayLike, scores: ArrayLike, fallback: float) -> Chosen:
    """Return the decision threshold with the best balanced accuracy, in the middle between two neighbouring scores.

    Labels ``(N,)`` 0/1, scores ``(N,)`` log-odds or probabilities. Among equals the one with the fewest escapes. One
    class only, or no cut better than chance: the fall-back.
    """
    truth, values = checked_scores(labels, scores)
    if truth.all() or not truth.any():
        return _fall_back(fallback, f"The validation part has {_classes(truth)}")
    bad, good = np.sort(values[truth]), np.sort(values[~truth])
    levels = np.unique(values)
    caught = 1 - np.searchsorted(bad, levels[1:]) / len(bad)
    passed = np.searchsorted(good, levels[1:]) / len(good)
    balanced = (caught + passed) / 2
    if len(levels) == 1 or balanced.max() <= 0.5 + 1e-12:
        return _fall_back(fallback, "No threshold on the validation scores does better than chance")
    best = int(np.flatnonzero(balanced >= balanced.max() - 1e-12)[0])
    value = _middle(levels[best], levels[best + 1])
    return Chosen(value, f"Balanced accuracy on {len(values)} validation images is best, {balanced[best]:.3f}.")


def by_max_escape_rate(labels: ArrayLike, scores: ArrayLike, rate: float, fallback: float) -> Chosen:
    """Return the highest decision threshold at which at most a share ``rate`` of validation defects is passed.

    It lies in the middle between the lowest defect it must catch and the next lower score. No defective image: the
    fall-back.
    """
    _share(rate, "decision.max_escape_rate")
    truth, values = checked_scores(labels, scores)
    bad = np.sort(values[truth])
    if len(bad) == 0:
        return _fall_back(fallback, f"The validation part has {_classes(truth)}")
    allowed = int(np.floor(rate * len(bad) + 1e-9))
    value = float(values.max()) if allowed == len(bad) else _below(bad[allowed], np.sort(values))
    escapes = int((bad <= value).sum())
    return Chosen(value, f"{escapes} of {len(bad)} validation defects pass, at most a share of {rate:g} may.")


def by_max_overkill_rate(labels: ArrayLike, scores: ArrayLike, rate: float, fallback: float) -> Chosen:
    """Return the lowest decision threshold at which at most a share ``rate`` of good validation images is rejected.

    It lies in the middle between the highest good image it must pass and the next higher score. No good image: the
    fall-back.
    """
    _share(rate, "decision.max_overkill_rate")
    truth, values = checked_scores(labels, scores)
    good = np.sort(values[~truth])
    if len(good) == 0:
        return _fall_back(fallback, f"The validation part has {_classes(truth)}")
    allowed = int(np.floor(rate * len(good) + 1e-9))
    if allowed == len(good):
        value = float(np.nextafter(np.float32(values.min()), -np.inf))
    else:
        edge = good[len(good) - 1 - allowed]
        higher = values[values > edge]
        value = _middle(float(edge), float(higher.min())) if len(higher) else float(edge)
    overkill = int((good > value).sum())
    return Chosen(value, f"{overkill} of {len(good)} good validation images are rejected, a share of {rate:g} may be.")


def _classes(truth: NDArray[np.bool_]) -> str:
    return "no image" if len(truth) == 0 else ("no good image" if truth.all() else "no defective image")


@dataclass(frozen=True)
class ReviewBand:
    """Up to ``low`` a part is passed, above ``high`` it is rejected, between them a human looks; low <= high."""

    low: float
    high: float
    sentence: str
    fallback: bool = False

    def verdicts(self, scores: ArrayLike) -> NDArray[np.str_]:
        """Return "good", "review" or "defective" for each score ``(N,)``."""
        values = np.asarray(scores, dtype=np.float64)
        return np.where(values > self.high, "defective", np.where(values > self.low, "review", "good"))


def review_band(
    labels: ArrayLike, scores: ArrayLike, max_escape_rate: float, max_overkill_rate: float, fallback: float
) -> ReviewBand:
    """Return the narrowest band outside which both rates hold on the validation part.

    Where one threshold keeps both rates the band is empty, at the middle of all that do. One class only: an empty band
    at the fall-back.
    """
    low = by_max_escape_rate(labels, scores, max_escape_rate, fallback)
    high = by_max_overkill_rate(labels, scores, max_overkill_rate, fallback)
    if low.fallback or high.fallback:
        sentence = (low if low.fallback else high).sentence
        return ReviewBand(float(fallback), float(fallback), sentence, fallback=True)
    if low.value >= high.value:
        middle = high.value + (low.value - high.value) / 2
        return ReviewBand(middle, middle, "One threshold keeps both rates on the validation part: nothing to review.")
    values = np.asarray(scores, dtype=np.float64)
    share = float(((values > low.value) & (values <= high.value)).mean())
    return ReviewBand(low.value, high.value, f"A share of {share:.3f} of the validation images goes to review.")
