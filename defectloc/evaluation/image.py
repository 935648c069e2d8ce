"""Scores of whole images; positive = defective, and what cannot be measured is None."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from defectloc.errors import DefectlocError
from defectloc.localization.thresholds import checked_scores

RATES = ("balanced_accuracy", "accuracy", "auroc", "average_precision", "f1_max", "tpr_at_5_fpr")
MAX_FPR = 0.05


def _checked(
    labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    truth, values = checked_scores(labels, scores)
    # The second check holds the predictions to 0/1 and to the same length.
    decided, _ = checked_scores(predicted, values)
    return truth, values, decided


def image_scores(labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike) -> dict[str, Any]:
    """Score decisions and ranking of N images: labels 0/1, scores (log-odds or probabilities), predicted 0/1, ``(N,)``.

    The keys: ``balanced_accuracy, accuracy, auroc, average_precision, f1_max, tpr_at_5_fpr`` in [0, 1],
    ``confusion{tp, fn, fp, tn}``, ``escapes`` (defects passed) and ``overkill`` (good parts rejected) as counts.
    ``tpr_at_5_fpr`` is the highest recall of a threshold whose false positive rate is at most 5 %, without
    interpolation; ``f1_max`` is over all thresholds. What one class alone cannot show is None. Raises DefectlocError
    for NaN, infinities and unequal lengths.
    """
    truth, values, decided = _checked(labels, scores, predicted)
    n_bad, n_good = int(truth.sum()), int((~truth).sum())
    tp, fp = int((truth & decided).sum()), int((~truth & decided).sum())
    fn, tn = n_bad - tp, n_good - fp
    result: dict[str, Any] = dict.fromkeys(RATES)
    result |= {
        "accuracy": (tp + tn) / len(truth) if len(truth) else None,
        "confusion": {"tp": tp, "fn": fn, "fp": fp, "tn": tn},
        "escapes": fn if n_bad else None,
        "overkill": fp if n_good else None,
    }
    if n_bad and n_good:
        precision, recall, _ = precision_recall_curve(truth, values)
        fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
        result |= {
            "balanced_accuracy": float(balanced_accuracy_score(truth, decided)),
            "auroc": float(roc_auc_score(truth, values)),
            "average_precision": float(average_precision_score(truth, values)),
            "f1_max": float((2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()),
            "tpr_at_5_fpr": float(tpr[fpr <= MAX_FPR + 1e-12].max()),
        }
    return result


def scores_by_defect_type(defect_types: Sequence[str], labels: ArrayLike, predicted: ArrayLike) -> pd.DataFrame:
    """Return per defect type how many images are decided correctly, good ones first, then by name.

    The columns: ``defect_type, label, n, correct, rate`` (correct / n, in [0, 1]).
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


def bootstrap_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    predicted: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float] | None]:
    """Return the percentile bootstrap interval (low, high) of each rate of ``image_scores``, at ``level`` in (0, 1).

    Good and defective images are drawn apart, so that every resample holds both classes (Efron and Tibshirani, 1993,
    chapter 13). With one class only each interval is None; the same seed gives the same intervals.
    """
    truth, values, decided = _checked(labels, scores, predicted)
    if not 0 < level < 1 or n_resamples < 1:
        raise DefectlocError(f"A bootstrap needs a level between 0 and 1, not {level}, and at least one resample.")
    if truth.all() or not truth.any():
        return dict.fromkeys(RATES)
    rng = np.random.default_rng(seed)
    drawn = np.empty((n_resamples, len(truth)))
    for one_class in (truth, ~truth):
        n = int(one_class.sum())
        drawn[:, one_class] = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    rates = weighted_rates(truth, values, decided, drawn)
    tail = 100 * (1 - level) / 2
    return {
        name: (float(np.percentile(rate, tail)), float(np.percentile(rate, 100 - tail))) for name, rate in rates.items()
    }


def weighted_rates(
    truth: NDArray[np.bool_], scores: NDArray, decided: NDArray[np.bool_], weights: NDArray
) -> dict[str, NDArray[np.float64]]:
    """Return each rate of ``image_scores`` for B weightings ``(B, N)`` of the same N images at once, ``(B,)``.

    A thousand resamples through scikit-learn take seconds, these milliseconds; both classes need weight in each row.
    """
    levels, at = np.unique(-scores, return_inverse=True)
    by_level = np.zeros((2, len(weights), len(levels)))
    for row, one_class in enumerate((truth, ~truth)):
        np.add.at(by_level[row].T, at[one_class], weights[:, one_class].T)
    # Columns run from the highest score down; tied scores share one.
    tp, fp = by_level.cumsum(axis=2)
    n_bad, n_good = tp[:, -1:], fp[:, -1:]
    seen = tp + fp
    precision = np.divide(tp, seen, out=np.ones_like(tp), where=seen > 0)
    recall = ((truth & decided) * weights).sum(1) / n_bad[:, 0]
    rejected = ((~truth & decided) * weights).sum(1) / n_good[:, 0]
    return {
        "balanced_accuracy": (recall + 1 - rejected) / 2,
        "accuracy": ((truth == decided) * weights).sum(1) / weights.sum(1),
        "auroc": (by_level[1] * (tp - by_level[0] / 2)).sum(1) / (n_bad * n_good)[:, 0],
        "average_precision": (by_level[0] * precision).sum(1) / n_bad[:, 0],
        "f1_max": (2 * tp / (seen + n_bad)).max(1),
        "tpr_at_5_fpr": np.where(fp <= (MAX_FPR + 1e-12) * n_good, tp / n_bad, 0).max(1),
    }
