"""Scores of whole images; positive = defective, and what cannot be measured is None."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from defectloc.errors import DefectlocError
from defectloc.evaluation.intervals import auroc_interval, weighted_rates, wilson
from defectloc.localization.thresholds import checked_scores

# Of the decisions, and of the ranking by score.
DECISIONS = ("balanced_accuracy", "accuracy", "recall", "specificity")
RANKING = ("auroc", "average_precision", "f1_max", "tpr_at_5_fpr")
MAX_FPR = 0.05
# Shares of the defects that may be missed, and what the good parts passed then are called.
MISSED = {"good_passed_at_missed_0": 0.0, "good_passed_at_missed_1": 0.01, "good_passed_at_missed_5": 0.05}
RATES = (*DECISIONS, *RANKING, *MISSED)
COUNTS = ("confusion", "escapes", "overkill")


def _checked(
    labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_] | None]:
    truth, values = checked_scores(labels, scores)
    # The second check holds the predictions to 0/1 and to the same length.
    return truth, values, None if predicted is None else checked_scores(predicted, values)[0]


def image_scores(labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike | None) -> dict[str, Any]:
    """Score decisions and ranking of N images: labels 0/1, scores (log-odds or probabilities), predicted 0/1, `(N,)`.

    The keys, in [0, 1]: `balanced_accuracy, accuracy, recall` (share of the defects found), `specificity` (share of the
    good parts passed), `auroc, average_precision, f1_max, tpr_at_5_fpr`, and `good_passed_at_missed_0, _1, _5` (see
    `good_passed`). `confusion{tp, fn, fp, tn}`, `escapes` (defects passed) and `overkill` (good parts rejected) are
    counts. `tpr_at_5_fpr` is the highest recall of a threshold whose false positive rate is at most 5 %, without
    interpolation; `f1_max` is over all thresholds. What one class alone cannot show is None, and so is all that needs
    decisions where `predicted` is None. Raises DefectlocError for NaN, infinities and unequal lengths.
    """
    truth, values, decided = _checked(labels, scores, predicted)
    n_bad, n_good = int(truth.sum()), int((~truth).sum())
    result: dict[str, Any] = dict.fromkeys((*RATES, *COUNTS))
    if decided is not None:
        result |= decision_scores(truth, decided)
    if n_bad and n_good:
        precision, recall, _ = precision_recall_curve(truth, values)
        fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
        result |= {
            "auroc": float(roc_auc_score(truth, values)),
            "average_precision": float(average_precision_score(truth, values)),
            "f1_max": float((2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()),
            "tpr_at_5_fpr": float(tpr[fpr <= MAX_FPR + 1e-12].max()),
            **{name: good_passed(truth, values, share) for name, share in MISSED.items()},
        }
    return result


def decision_scores(labels: ArrayLike, predicted: ArrayLike) -> dict[str, Any]:
    """Return the keys of `image_scores` that need no scores, of N images: labels and predicted 0/1, `(N,)`."""
    truth, decided = checked_scores(labels, predicted)[0], checked_scores(predicted, labels)[0]
    n_bad, n_good = int(truth.sum()), int((~truth).sum())
    tp, fp = int((truth & decided).sum()), int((~truth & decided).sum())
    fn, tn = n_bad - tp, n_good - fp
    return {
        "balanced_accuracy": (tp / n_bad + tn / n_good) / 2 if n_bad and n_good else None,
        "accuracy": (tp + tn) / len(truth) if len(truth) else None,
        "recall": tp / n_bad if n_bad else None,
        "specificity": tn / n_good if n_good else None,
        "confusion": {"tp": tp, "fn": fn, "fp": fp, "tn": tn},
        "escapes": fn if n_bad else None,
        "overkill": fp if n_good else None,
    }


def good_passed(labels: ArrayLike, scores: ArrayLike, missed: float) -> float | None:
    """Return the highest share, 0 to 1, of good images passed where at most a share `missed` of the defects is.

    Over all thresholds; labels 0/1 and scores `(N,)`. Of n defects the floor of `missed` x n may be missed, so that 1 %
    of fewer than a hundred is none. With one class only: None. Raises DefectlocError for a share outside [0, 1], NaN
    and infinities.
    """
    if not 0 <= missed <= 1:
        raise DefectlocError(f"missed={missed} is not a share of the defects: give a number from 0 to 1.")
    truth, values = checked_scores(labels, scores)
    bad, good = np.sort(values[truth]), values[~truth]
    if len(bad) == 0 or len(good) == 0:
        return None
    # Against 0.29 * 100 = 28.999999999999996.
    allowed = int(missed * len(bad) + 1e-9)
    return 1.0 if allowed == len(bad) else float((good < bad[allowed]).mean())


def scores_by_defect_type(defect_types: Sequence[str], labels: ArrayLike, predicted: ArrayLike) -> pd.DataFrame:
    """Return per defect type how many of N images are decided correctly, good ones first, then by name.

    `defect_types` has N names; labels and predicted 0/1, `(N,)`. The columns: `defect_type, label, n, correct, rate`
    (correct / n, in [0, 1]). Raises DefectlocError for unequal lengths and other values than 0 and 1.
    """
    truth, _, decided = _checked(labels, np.zeros(len(np.asarray(labels))), predicted)
    if len(defect_types) != len(truth):
        raise DefectlocError(f"There are {len(defect_types)} defect types for {len(truth)} images: give one for each.")
    table = pd.DataFrame({"defect_type": list(defect_types), "label": truth.astype(int), "correct": truth == decided})
    grouped = table.groupby(["label", "defect_type"], as_index=False).agg(
        n=("correct", "size"), correct=("correct", "sum")
    )
    grouped["rate"] = grouped["correct"] / grouped["n"]
    return grouped[["defect_type", "label", "n", "correct", "rate"]]


def intervals(
    labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike | None, *, level: float = 0.95
) -> dict[str, tuple[float, float] | None]:
    """Return the interval (low, high), at `level` in (0, 1), of each rate of `image_scores`.

    It is conditional on one fit: it covers which images were tested, neither another split nor another seed of the fit.
    Recall and specificity by Wilson with continuity correction, balanced accuracy and accuracy from both
    (`weighted_rates`), AUROC by `auroc_interval`, average precision by Wilson over the defective images (its score form
    of the binomial interval of Boyd et al., "Area under the precision-recall curve", ECML 2013). None for `f1_max`,
    `tpr_at_5_fpr` and `good_passed_at_missed_*`, whose threshold is chosen on the images that they are measured on, and
    for what `image_scores` cannot measure.
    """
    if not 0 < level < 1:
        raise DefectlocError(f"An interval needs a level between 0 and 1, not {level}.")
    truth, values, decided = _checked(labels, scores, predicted)
    measured = image_scores(labels, scores, predicted)
    result: dict[str, tuple[float, float] | None] = dict.fromkeys(RATES)
    if decided is not None:
        result |= decision_intervals(measured["confusion"], level=level)
    if measured["auroc"] is not None:
        result["auroc"] = auroc_interval(truth, values, measured["auroc"], level)
        result["average_precision"] = wilson(measured["average_precision"], int(truth.sum()), level)
    return result


def decision_intervals(confusion: Mapping[str, int], *, level: float = 0.95) -> dict[str, tuple[float, float] | None]:
    """Return the intervals of `intervals` that need no scores, those of `DECISIONS`, of the counts `tp, fn, fp, tn`."""
    n_bad, n_good = confusion["tp"] + confusion["fn"], confusion["fp"] + confusion["tn"]
    result: dict[str, tuple[float, float] | None] = dict.fromkeys(DECISIONS)
    if n_bad:
        result["recall"] = wilson(confusion["tp"] / n_bad, n_bad, level, continuity=True)
    if n_good:
        result["specificity"] = wilson(confusion["tn"] / n_good, n_good, level, continuity=True)
    if n_bad and n_good:
        rates, n = (confusion["tp"] / n_bad, confusion["tn"] / n_good), (n_bad, n_good)
        result["balanced_accuracy"] = weighted_rates(rates, n, (0.5, 0.5), level)
        result["accuracy"] = weighted_rates(rates, n, (n_bad / sum(n), n_good / sum(n)), level)
    return result
