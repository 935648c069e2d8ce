"""Instance scores: predicted regions against defects, forgiving a defect that is found in parts, or two as one."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from defectloc.evaluation.masks import masks_beside
from defectloc.localization.boxes import corners, label_components

# As fractions of whole numbers, so that an overlap of exactly 3/10 reaches 0.3.
LEVELS = np.arange(25, 80, 5) / 100


def predicted_regions(
    normalized: ArrayLike, threshold: float, boxes: pd.DataFrame, min_area: float = 0
) -> NDArray[np.bool_]:
    """Return the pixels `(H, W)` that boxes were made from: of a normalised map `(H, W)`, what is above the threshold.

    Only 8-connected components of at least `min_area` pixels that lie within one of the boxes, so that what the boxes'
    settings dropped is dropped here, too.
    """
    array = np.asarray(normalized)
    labels, around, areas = label_components(array > float(threshold))
    kept = np.zeros(len(areas) + 1, bool)
    for box in corners(boxes):
        kept[1:] |= (around[:, :2] >= box[:2]).all(1) & (around[:, 2:] <= box[2:]).all(1)
    kept[1:] &= areas >= min_area
    return kept[labels]


class InstanceScores:
    """Collect predicted and true regions of images for the component-level F1 of SegmentMeIfYouCan.

    Of a true region the adjusted overlap sIoU is |intersection with the predicted regions P that touch it| / |it united
    with P, without what of P lies on other true regions|; of a predicted region the precision is its share that lies on
    true ones. At a level t a true region with sIoU >= t is found, else missed, and a predicted region with precision
    < t is false: F1 = 2 found / (2 found + missed + false), over all images together, averaged over t = 0.25, 0.30,
    ..., 0.75 (Chan et al., "SegmentMeIfYouCan", NeurIPS 2021 Datasets; `road_anomaly_benchmark/metrics/
    instance_segmentation.py`). Regions are 8-connected. Unlike there, a true region crossed by an ignored area stays
    one, and no size is left out but by the setting that the regions were made with.
    """

    def __init__(self) -> None:
        """Start without images."""
        self._found = np.zeros(len(LEVELS), np.int64)
        self._false = np.zeros(len(LEVELS), np.int64)
        self._n_true = self._n_predicted = 0
        self._overlap = 0.0

    def add(self, predicted: ArrayLike, mask: ArrayLike | None, ignore: ArrayLike | None = None) -> None:
        """Add one image: predicted pixels `(H, W)`, mask `(H, W)` (None: good), pixels to leave out `(H, W)`.

        A true region that is wholly left out does not count, nor does a predicted one. Raises DefectlocError for shapes
        that differ.
        """
        found = np.asarray(predicted) != 0
        truth, left_out = masks_beside(found.shape, mask, ignore)
        true = np.where(left_out, 0, label_components(truth)[0])
        regions = label_components(found & ~left_out)[0]
        overlap, precision = _overlaps(true, regions)
        self._n_true += len(overlap)
        self._n_predicted += len(precision)
        self._overlap += float(overlap.sum())
        self._found += (overlap[:, None] >= LEVELS).sum(0)
        self._false += (precision[:, None] < LEVELS).sum(0)

    def compute(self) -> dict[str, Any]:
        """Return `instance_f1` (averaged over the levels), `instance_f1_50` and `instance_siou`, each in [0, 1].

        `instance_siou` is the mean sIoU of the true regions. Without a true region all are None.
        """
        if self._n_true == 0:
            return dict.fromkeys(("instance_f1", "instance_f1_50", "instance_siou"))
        f1 = 2 * self._found / (self._found + self._n_true + self._false)
        return {
            "instance_f1": float(f1.mean()),
            "instance_f1_50": float(f1[LEVELS == 0.5][0]),
            "instance_siou": self._overlap / self._n_true,
        }


def _overlaps(true: NDArray[np.int32], predicted: NDArray[np.int32]) -> tuple[NDArray, NDArray]:
    """Return sIoU of each true and precision of each predicted region, from labels `(H, W)`, 0 = none."""
    used = (true > 0) | (predicted > 0)
    true_names, rows = np.unique(np.append(0, true[used]), return_inverse=True)
    predicted_names, columns = np.unique(np.append(0, predicted[used]), return_inverse=True)
    shape = len(true_names), len(predicted_names)
    # How many pixels each pair shares; few pairs of many meet, so only those are held.
    pairs, common = np.unique(rows[1:] * shape[1] + columns[1:], return_counts=True)
    row, column = np.divmod(pairs, shape[1])
    true_area = np.bincount(row, common, shape[0])
    predicted_area = np.bincount(column, common, shape[1])
    both = (row > 0) & (column > 0)
    row, column, common = row[both], column[both], common[both]
    on_defects = np.bincount(column, common, shape[1])
    shared = np.bincount(row, common, shape[0])
    # All of the predicted regions that touch a true one, less what lies on other true ones.
    beside = np.bincount(row, predicted_area[column] - on_defects[column], shape[0])
    siou = shared[1:] / (true_area[1:] + beside[1:])
    return siou, on_defects[1:] / predicted_area[1:]
