"""The weights by which the scores of an image become one score, the log-odds that its part is defective."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from defectloc.localization.thresholds import checked_scores

# Standard deviations above good images at which a score without labels counts as log-odds 0.
EVEN_ODDS_SD = 3.0
# Defective validation images with class log-odds above 0 from which on the class network has any reliability weight.
MIN_DETECTED = 5


@dataclass(frozen=True)
class ScoreWeights:
    """Log-odds of an image as a weighted sum of its scores, and the sentence that says where the weights come from."""

    weights: tuple[float, ...] = (1.0,)
    bias: float = 0.0
    sentence: str = "The class network's log-odds."
    fallback: bool = False

    def __call__(self, *scores: ArrayLike) -> NDArray[np.float64]:
        """Return the log-odds `(N,)` of images with these scores, each `(N,)`."""
        parts = [w * np.asarray(s, dtype=np.float64) for w, s in zip(self.weights, scores, strict=True)]
        return np.asarray(np.sum(parts, axis=0) + self.bias)


def by_good(labels: ArrayLike, map_score: ArrayLike) -> ScoreWeights:
    """Return weights that need no defective image: standard deviations of the good scores, minus `EVEN_ODDS_SD`.

    Labels and scores `(N,)` of the validation split. Without a good image the score is taken unchanged. Raises
    DefectlocError for NaN and infinities.
    """
    truth, values = checked_scores(labels, map_score)
    good = values[~truth]
    if len(good) == 0:
        sentence = "The validation split has no good image to scale the score by; it is used unchanged."
        return ScoreWeights((1.0,), 0.0, sentence, fallback=True)
    sd = float(good.std()) or 1.0
    sentence = f"Standard deviations of {len(good)} good validation images."
    return ScoreWeights((1 / sd,), -float(good.mean()) / sd - EVEN_ODDS_SD, sentence)


def by_labels(labels: ArrayLike, class_score: ArrayLike, map_score: ArrayLike) -> ScoreWeights:
    """Return the logistic regression of validation labels `(N,)` on the class score and the map's score, each `(N,)`.

    Neither weight is negative, and both classes weigh the same. One class only: the sum of the class score and of
    `by_good`. Raises DefectlocError for NaN and infinities.
    """
    truth, first = checked_scores(labels, class_score)
    _, second = checked_scores(labels, map_score)
    if truth.all() or not truth.any():
        alone = by_good(labels, map_score)
        sentence = f"The validation split has one class only, so the class log-odds are added. {alone.sentence}"
        return ScoreWeights((1.0, *alone.weights), alone.bias, sentence, fallback=True)
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
    sentence = f"Logistic regression on {len(first)} validation images."
    return ScoreWeights((float(weights[0]), float(weights[1])), bias, sentence)


def reliability_weight(
    labels: ArrayLike, log_odds: ArrayLike, retained: ArrayLike, training_counts: tuple[int, int] = (0, 0)
) -> float:
    """Return the weight of the class log-odds, 0 to 1, by what they retain under counterfactual replacement.

    Of the defective validation images with log-odds `(N,)` above 0 let a share s keep them above 0 once all cells that
    are not anomalous are replaced by normal features (`retained`, `(N,)`): max(0, 2 s - 1), so that a network which
    judges half of them by something else weighs nothing. `training_counts` adds training images: how many have
    log-odds above 0, and how many of those retain them. They are many more, but a little in the network's favour,
    since it was fitted on them (docs/localization.md). 0 where fewer than `MIN_DETECTED` validation images are
    detected, since a network that detects none of them knows its training images at most.
    """
    truth, before = checked_scores(labels, log_odds)
    _, after = checked_scores(labels, retained)
    detected = truth & (before > 0)
    if detected.sum() < MIN_DETECTED:
        return 0.0
    n_retained = int((after[detected] > 0).sum()) + training_counts[1]
    return max(0.0, 2 * n_retained / (int(detected.sum()) + training_counts[0]) - 1)


def by_reliability(
    labels: ArrayLike,
    log_odds: ArrayLike,
    retained: ArrayLike,
    map_score: ArrayLike,
    training_counts: tuple[int, int] = (0, 0),
) -> ScoreWeights:
    """Return `by_labels` of the map's score and of the class log-odds by their reliability; three weights, in order.

    The class score is the mean of log-odds and retained log-odds, with the reliability weight and one minus it.
    Without reliability neither counts, since log-odds that rest on other places still move the retained ones.
    """
    share = reliability_weight(labels, log_odds, retained, training_counts)
    parts = np.array([share, 1 - share if share > 0 else 0])
    class_score = parts[0] * np.asarray(log_odds, dtype=np.float64) + parts[1] * np.asarray(retained, dtype=np.float64)
    whole = by_labels(labels, class_score, map_score)
    of_class, of_map = whole.weights
    sentence = f"{whole.sentence} Reliability weight of the class log-odds: {share:.2f}."
    weights = (float(of_class * parts[0]), float(of_class * parts[1]), of_map)
    return ScoreWeights(weights, whole.bias, sentence, whole.fallback)
