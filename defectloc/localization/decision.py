"""From the scores of an image to the verdict on its part."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.model_selection import KFold, StratifiedKFold

from defectloc.config import DecisionConfig
from defectloc.errors import DefectlocError
from defectloc.localization import thresholds
from defectloc.localization.calibration import Calibration, brier_score, expected_calibration_error, fit_platt
from defectloc.localization.score_weights import CLASS_ALONE, OVERKILL, ScoreWeights, by_good, by_labels

GOOD, REVIEW, DEFECTIVE = "good", "review", "defective"
SCORES = ("class", "memory", "fusion")
# Of images: the top-k mean of the map, and what the class network says.
MAP_SCORE, LOG_ODDS = "map_score", "log_odds"
FOLDS = 5
# Of fewer defective validation images a threshold by both classes is chance; good images choose then.
FEWEST = 5
# Of fewer, whether the class network adds to the map is chance; the map decides alone then.
FEWEST_FOR_CLASS = 10


@dataclass(frozen=True)
class Limit:
    """A bound between verdicts, as a score and as the probability that is shown for that score."""

    score: float
    probability: float


@dataclass(frozen=True)
class Decision:
    """The only way from scores to a probability and a verdict.

    An image whose score lies strictly above `threshold` is predicted defective. Its verdict is "defective" above
    `defective_above` and "review" between the two; without a review band they are equal. Verdicts go by the score,
    log-odds, since probabilities near 0 and 1 tie. `prevalence` is the stated share of defective parts, in (0, 1), for
    which probabilities are given; None: that of the calibration.
    """

    score: str
    weights: ScoreWeights
    calibration: Calibration
    prevalence: float | None
    threshold: Limit
    defective_above: Limit
    threshold_from: str
    fallback: bool = False

    @classmethod
    def fit(cls, validation: pd.DataFrame, config: DecisionConfig, class_left_out: str | None = None) -> "Decision":
        """Fit weights, calibration and threshold to the validation split, each to the scores before it.

        `validation` has `label` and what the score is made of: `log_odds` of the class network, `map_score`, or, for
        score=fusion, both; without a class network its log-odds are NaN. With score=class, a fixed threshold and no
        calibration nothing is fitted and it may be empty. `class_left_out` is the sentence that says why score=fusion
        takes nothing from the class network, where it must not. Calibration errors are cross-fitted, at the split's own
        prevalence. Raises DefectlocError for NaN, infinities and values out of range.
        """
        decision = cls._fit(validation, config, class_left_out)
        if not config.calibrate or validation["label"].nunique() < 2:
            return decision
        held_out = cls.cross_fit(validation, replace(config, prevalence=None), class_left_out)
        labels, before, after = held_out["label"], expit(held_out["score"]), held_out["probability"]
        measured = replace(
            decision.calibration,
            ece_before=expected_calibration_error(labels, before),
            ece_after=expected_calibration_error(labels, after),
            brier_before=brier_score(labels, before),
            brier_after=brier_score(labels, after),
        )
        return replace(decision, calibration=measured)

    @classmethod
    def _fit(cls, validation: pd.DataFrame, config: DecisionConfig, class_left_out: str | None) -> "Decision":
        if config.prevalence is not None and not 0 < config.prevalence < 1:
            raise DefectlocError(f"decision.prevalence={config.prevalence} is a share: give a number between 0 and 1.")
        weights = _weights(validation, str(config.score), class_left_out)
        calibration = Calibration()
        if config.calibrate:
            calibration = fit_platt(validation["label"], _scores(weights, validation))
        fixed = Limit(calibration.score_at(config.threshold, config.prevalence), float(config.threshold))
        common = (str(config.score), weights, calibration, config.prevalence)
        if config.threshold_from == "fixed":
            return cls(*common, fixed, fixed, "Fixed.")
        scores = _scores(weights, validation)
        fallback = _is_by_good(validation["label"], config)
        try:
            chosen = _choose(validation["label"], scores, config)
        except thresholds.NoThresholdError as error:
            sentence = f"{error}; decision.threshold={config.threshold:g}, a probability, is used instead."
            return cls(*common, fixed, fixed, sentence, fallback=True)
        upper = chosen.value if chosen.upper is None else chosen.upper
        threshold, defective_above = (
            Limit(score, float(expit(calibration.log_odds(score, config.prevalence))))
            for score in (chosen.value, upper)
        )
        return cls(*common, threshold, defective_above, chosen.sentence, fallback)

    @classmethod
    def cross_fit(
        cls, validation: pd.DataFrame, config: DecisionConfig, class_left_out: str | None = None
    ) -> pd.DataFrame:
        """Return `apply` of each validation image by a Decision that was fitted to the validation images without it.

        By five stratified folds, fewer where a class has fewer images; a class of one image is left out of the fold
        that it is judged in. Scores counted on the result are those of images that no choice has seen.
        """
        labels = validation["label"].to_numpy().astype(int)
        if len(labels) == 0:
            return cls._fit(validation, config, class_left_out).apply(validation)
        rarest = int(np.bincount(labels, minlength=2).min())
        parts: Iterable[tuple[NDArray, NDArray]] = [(np.zeros(0, int), np.zeros(1, int))]
        if rarest >= 2:
            parts = StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=0).split(labels, labels)
        elif len(labels) >= 2:
            parts = KFold(min(FOLDS, len(labels)), shuffle=True, random_state=0).split(labels)
        judged, places = [], []
        for rest, held_out in parts:
            decision = cls._fit(validation.iloc[rest], config, class_left_out)
            judged.append(decision.apply(validation.iloc[held_out]))
            places.append(held_out)
        return pd.concat(judged).iloc[np.argsort(np.concatenate(places))]

    def apply(self, images: pd.DataFrame) -> pd.DataFrame:
        """Return the images with `score` (log-odds), `probability`, `predicted` (0/1) and `verdict`.

        Raises DefectlocError where a score is NaN or infinite, which would pass as good.
        """
        scores = _scores(self.weights, images)
        return self.judged(images, scores, self.probability(scores), scores > self.threshold.score)

    def judged(self, images: pd.DataFrame, scores: NDArray, probabilities: NDArray, positive: NDArray) -> pd.DataFrame:
        """Return what `apply` does, for scores, probabilities and whether a score is above the threshold, each `(N,)`.

        An exported graph gives these itself. Raises DefectlocError where a score is NaN or infinite.
        """
        if not np.isfinite(scores).all():
            raise DefectlocError("A score is NaN or infinite: check the model or the file it came from.")
        # Without a review band the two thresholds are one, which is not compared twice: rounding may differ.
        has_band = self.defective_above != self.threshold
        defective = positive & (scores > self.defective_above.score) if has_band else positive
        return images.assign(
            score=scores,
            probability=probabilities,
            predicted=positive.astype(int),
            verdict=np.where(defective, DEFECTIVE, np.where(positive, REVIEW, GOOD)),
        )

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of a defect, in [0, 1], for scores of any shape, at the stated prevalence."""
        return np.asarray(expit(self.calibration.log_odds(scores, self.prevalence)))

    @property
    def messages(self) -> list[str]:
        """What could not be fitted, as sentences to print."""
        steps = ((self.weights.fallback, self.weights.sentence), (self.calibration.fallback, self.calibration.sentence))
        return [sentence for fallback, sentence in (*steps, (self.fallback, self.threshold_from)) if fallback]

    def describe(self, probability: float, verdict: str | None = None) -> str:
        """Return verdict and probability with the threshold beside where it is not 0.5.

        Without a verdict (that of `apply`, by the score) the probability decides. Numbers that differ are shown with as
        many digits as tell them apart.
        """
        low, high = self.threshold.probability, self.defective_above.probability
        if verdict is None:
            verdict = DEFECTIVE if probability > high else REVIEW if probability > low else GOOD
        digits = 3
        different = {float(probability), low, high}
        while digits < 16 and len({f"{each:.{digits}f}" for each in different}) < len(different):
            digits += 1
        shown = f"{verdict}, p = {probability:.{digits}f}"
        if self.threshold != self.defective_above:
            return f"{shown} (review above {low:.{digits}f}, defective above {high:.{digits}f})"
        return shown if low == 0.5 else f"{shown} (threshold {low:.{digits}f})"

    def to_json(self) -> dict[str, Any]:
        """Return all that `from_json` needs, as plain numbers, strings, lists and dicts."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Decision":
        """Rebuild a Decision from `to_json`; raises DefectlocError for anything else."""
        try:
            parts = {
                "weights": ScoreWeights(**content["weights"]),
                "calibration": Calibration(**content["calibration"]),
                "threshold": Limit(**content["threshold"]),
                "defective_above": Limit(**content["defective_above"]),
            }
            return cls(**content | parts)
        except (KeyError, TypeError) as error:
            raise DefectlocError(f"This is no decision of a run ({error}): localise the run again.") from error


def _weights(validation: pd.DataFrame, score: str, class_left_out: str | None) -> ScoreWeights:
    if score not in SCORES:
        raise DefectlocError(f"decision.score={score} is unknown: choose one of {', '.join(SCORES)}.")
    if score == "class":
        return CLASS_ALONE
    labels, map_score = validation["label"], validation[MAP_SCORE]
    if score == "memory" or validation[LOG_ODDS].isna().all():
        return by_good(labels, map_score)
    if class_left_out is not None:
        alone = by_good(labels, map_score)
        return replace(alone, sentence=f"{class_left_out} {alone.sentence}", fallback=True)
    n_defective = int(labels.sum())
    if n_defective < FEWEST_FOR_CLASS or n_defective == len(labels):
        return by_good(labels, map_score)
    return by_labels(labels, map_score, validation[LOG_ODDS])


def _scores(weights: ScoreWeights, images: pd.DataFrame) -> NDArray[np.float64]:
    return weights(images.get(MAP_SCORE), images.get(LOG_ODDS))


def _is_by_good(labels: pd.Series, config: DecisionConfig) -> bool:
    """Tell whether good validation images alone give the threshold: that of a map, with few defects or none."""
    is_plain = config.max_escape_rate is None and config.max_overkill_rate is None
    return is_plain and config.score != "class" and int(labels.sum()) < FEWEST


def _choose(labels: pd.Series, scores: NDArray[np.float64], config: DecisionConfig) -> thresholds.Chosen:
    escape, overkill = config.max_escape_rate, config.max_overkill_rate
    if escape is not None and overkill is not None:
        return thresholds.review_band(labels, scores, escape, overkill)
    if escape is not None:
        return thresholds.by_max_escape_rate(labels, scores, escape)
    if overkill is not None:
        return thresholds.by_max_overkill_rate(labels, scores, overkill)
    if _is_by_good(labels, config):
        chosen = thresholds.by_max_overkill_rate(labels, scores, OVERKILL)
        n = int(labels.sum())
        few = (
            f"The validation split has {n} defective image{'' if n == 1 else 's'}, and {FEWEST} are needed to choose by"
        )
        return thresholds.Chosen(chosen.value, f"{few}; the threshold follows from its good images. {chosen.sentence}")
    return thresholds.by_balanced_accuracy(labels, scores)
