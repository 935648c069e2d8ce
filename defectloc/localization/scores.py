"""From the scores of an image to the log-odds that its part is defective."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from defectloc.localization.thresholds import checked_scores

# Patches whose mean is a map's score of its image.
HOTTEST = 5
# Standard deviations above good images at which a score without labels reads as an even chance.
EVEN = 3.0
# Defects found from which on the classifier can be trusted at all.
FEWEST = 5


def hottest(maps: NDArray) -> NDArray[np.float64]:
    """Return the mean of the `HOTTEST` largest values of each map `(N, h, w)`: its score of the image `(N,)`."""
    flat = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -HOTTEST:]
    return flat.mean(1, dtype=np.float64)


def trust(labels: ArrayLike, log_odds: ArrayLike, kept: ArrayLike, taught: tuple[int, int] = (0, 0)) -> float:
    """Return how far the class log-odds may be believed, 0 to 1, by what stays of them on validation images `(N,)`.

    Of the defective images that the classifier finds, let a share s stay defective once all that is not unusual is
    replaced by good parts: max(0, 2 s - 1), so that a network which judges by something else in half of them has no
    say. `taught` adds training images, as the number found and of those the number that stays: they are many more, but
    a little kinder, since the network knows them (docs/localization.md). 0 where fewer than `FEWEST` of the validation
    images are found, since a network that finds none of them knows its training images at most.
    """
    truth, before = checked_scores(labels, log_odds)
    _, after = checked_scores(labels, kept)
    found = truth & (before > 0)
    if found.sum() < FEWEST:
        return 0.0
    stays = int((after[found] > 0).sum()) + taught[1]
    return max(0.0, 2 * stays / (int(found.sum()) + taught[0]) - 1)


@dataclass(frozen=True)
class Weights:
    """Image log-odds as a weighted sum of scores, and the sentence that says where the weights are from."""

    weights: list[float]
    bias: float
    sentence: str
    fallback: bool = False

    def __call__(self, *scores: ArrayLike) -> NDArray[np.float64]:
        """Return the log-odds `(N,)` of images with these scores, each `(N,)`."""
        parts = [w * np.asarray(s, dtype=np.float64) for w, s in zip(self.weights, scores, strict=True)]
        return np.asarray(np.sum(parts, axis=0) + self.bias)


def by_good(labels: ArrayLike, score: ArrayLike) -> Weights:
    """Return log-odds without any defective image: standard deviations above `EVEN` of the good validation scores."""
    truth, values = checked_scores(labels, score)
    good = values[~truth]
    if len(good) == 0:
        return Weights([1.0], 0.0, "The validation part has no good image to scale by; the score stays as it is.", True)
    sd = float(good.std()) or 1.0
    return Weights([1 / sd], -float(good.mean()) / sd - EVEN, f"By {len(good)} good validation images.")


def by_labels(labels: ArrayLike, evidence: ArrayLike, unusual: ArrayLike) -> Weights:
    """Return the logistic regression of validation labels `(N,)` on the class log-odds and the map's score, `(N,)`.

    Neither weight is negative. One class only: the sum of the class log-odds and of `by_good`.
    """
    truth, first = checked_scores(labels, evidence)
    _, second = checked_scores(labels, unusual)
    if truth.all() or not truth.any():
        alone = by_good(labels, unusual)
        sentence = f"The validation part has one class only, so the class log-odds are added. {alone.sentence}"
        return Weights([1.0, *alone.weights], alone.bias, sentence, True)
    both = np.stack([first, second], 1)
    mean, sd = both.mean(0), np.where(both.std(0) > 0, both.std(0), 1.0)
    used = [0, 1]
    while True:
        model = LogisticRegression(class_weight="balanced").fit(((both - mean) / sd)[:, used], truth)
        if len(used) == 1 or model.coef_[0].min() >= 0:
            break
        used = [used[int(model.coef_[0].argmax())]]
    weights = np.zeros(2)
    weights[used] = np.clip(model.coef_[0], 0, None) / sd[used]
    bias = float(model.intercept_[0] - (weights * mean).sum())
    return Weights(weights.tolist(), bias, f"Logistic regression on {len(first)} validation images.")


def by_trust(
    labels: ArrayLike, log_odds: ArrayLike, kept: ArrayLike, unusual: ArrayLike, taught: tuple[int, int] = (0, 0)
) -> Weights:
    """Return `by_labels` of the map's score and of the class evidence as far as `trust` goes; three weights, in order.

    What stays of evidence that lies elsewhere is still moved by it, so without trust neither counts.
    """
    share = trust(labels, log_odds, kept, taught)
    parts = np.array([share, 1 - share if share > 0 else 0])
    evidence = parts[0] * np.asarray(log_odds, dtype=np.float64) + parts[1] * np.asarray(kept, dtype=np.float64)
    whole = by_labels(labels, evidence, unusual)
    of_class, of_map = whole.weights
    sentence = f"{whole.sentence} Trust in the class: {share:.2f}."
    return Weights([*(of_class * parts).tolist(), of_map], whole.bias, sentence, whole.fallback)
