"""Curves of whole images: ROC, precision by recall, and how often probabilities are right."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from defectloc.evaluation.intervals import wilson
from defectloc.localization.thresholds import checked_scores

# Of fewer images than this five bins already hold few each.
FEW, BINS_OF_FEW, BINS = 200, 5, 10


def roc_points(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64] | None:
    """Return (share of good images rejected, share of defects caught) `(P, 2)` over all thresholds, from (0, 0).

    Labels `(N,)` 0/1, scores `(N,)`. None for one class only. Raises DefectlocError for NaN and infinities.
    """
    truth, values = checked_scores(labels, scores)
    if truth.all() or not truth.any():
        return None
    fpr, tpr, _ = roc_curve(truth, values)
    return np.stack([fpr, tpr], 1)


def precision_recall_points(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64] | None:
    """Return (share of defects caught, share of rejected parts that are defective) `(P, 2)`, in falling recall.

    Labels `(N,)` 0/1, scores `(N,)`. None for one class only. Raises DefectlocError for NaN and infinities.
    """
    truth, values = checked_scores(labels, scores)
    if truth.all() or not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, values)
    # The last point, no image rejected and precision 1, belongs to no threshold.
    return np.stack([recall[:-1], precision[:-1]], 1)


def calibration_bins(labels: ArrayLike, probabilities: ArrayLike) -> pd.DataFrame:
    """Compare mean probability and share of defects in equally wide bins of the probability, those that hold images.

    Labels `(N,)` 0/1, probabilities `(N,)` in [0, 1]; ten bins, five of fewer than 200 images. The columns: `n`,
    `probability`, `share`, and Wilson's 95 % interval `low, high` of the share.
    """
    truth, values = checked_scores(labels, probabilities)
    bins = BINS if len(values) >= FEW else BINS_OF_FEW
    of_image = np.minimum((values * bins).astype(np.intp), bins - 1)
    rows = []
    for number in np.unique(of_image):
        inside = of_image == number
        n, share = int(inside.sum()), float(truth[inside].mean())
        low, high = wilson(share, n, 0.95)
        rows.append({"n": n, "probability": float(values[inside].mean()), "share": share, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["n", "probability", "share", "low", "high"])
