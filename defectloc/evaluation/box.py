"""Scores of boxes: half-open, 8-connectivity, IoU without +1; what cannot be measured is None."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.localization.boxes import CORNERS, corners, iou, label_components
from defectloc.localization.maps import finite_map

LEVELS = (0.3, 0.5)
SIZES = ("small", "medium", "large")
# Shares of the image area; fixed ones, so that runs and data sets compare.
SIZE_BOUNDS = (0.01, 0.05)


def visible_boxes(mask: ArrayLike, ignore: ArrayLike | None = None) -> NDArray[np.int64]:
    """Return the boxes `(N, 4)` of a mask's 8-connected components, sorted by y0, x0, y1, x1.

    Mask and the pixels to leave out are `(H, W)`, nonzero = defect, left out. A component of which a part is left out
    keeps its whole box, so that a fixture across a defect does not make two of it; one that is wholly left out has
    none.
    """
    labels, boxes, _ = label_components(mask)
    if ignore is not None:
        seen = np.unique(labels[np.asarray(ignore) == 0])
        boxes = boxes[seen[seen > 0] - 1]
    return boxes[np.lexsort(boxes[:, [2, 3, 0, 1]].T)]


def match(predicted: ArrayLike, scores: ArrayLike, true: ArrayLike, level: float) -> NDArray[np.intp]:
    """Return for each predicted box `(N, 4)` the true box `(M, 4)` it finds, -1 for none, `(N,)`.

    In falling order of score each box takes, of the true boxes not yet taken, the one of highest IoU if that is at
    least `level`: the greedy one-to-one rule of COCO.
    """
    overlap = iou(predicted, true)
    found = np.full(len(overlap), -1, dtype=np.intp)
    for row in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable"):
        if overlap.shape[1] and overlap[row].max() >= level:
            found[row] = overlap[row].argmax()
            # Taken: below every level, also below 0.
            overlap[:, found[row]] = -1
    return found


@dataclass
class _Counts:
    found: int = 0
    images_right: int = 0
    by_size: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIZES, 0))


class BoxScores:
    """Collect predicted and true boxes of images, at the threshold the boxes were made with; an image counts once."""

    def __init__(self) -> None:
        """Start without images."""
        self._seen: set[str] = set()
        self._counts = {level: _Counts() for level in LEVELS}
        self._n_true = self._n_predicted = self._n_defective = self._n_good = self._false_on_good = 0
        self._n_by_size = dict.fromkeys(SIZES, 0)
        self._sized = True

    def add(
        self,
        image_id: str,
        predicted_boxes: pd.DataFrame,
        true_boxes: pd.DataFrame | ArrayLike,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Add an image: predicted boxes with a `score`, true boxes `(M, 4)`, none on a good image.

        `size` = (height, width) of the image sorts its defects by box area over image area: small below 1 %, large
        from 5 %. Raises DefectlocError for an image added twice.
        """
        if image_id in self._seen:
            raise DefectlocError(f"The image {image_id} is scored twice: list each image once.")
        self._seen.add(image_id)
        true, predicted = corners(true_boxes), corners(predicted_boxes[CORNERS])
        self._n_true += len(true)
        self._n_predicted += len(predicted)
        if len(true) == 0:
            self._n_good += 1
            self._false_on_good += len(predicted)
            return
        self._n_defective += 1
        sizes = np.zeros(len(true), dtype=np.intp)
        if size is None:
            self._sized = False
        else:
            share = (true[:, 2:] - true[:, :2]).prod(1) / (size[0] * size[1])
            sizes = np.digitize(share, SIZE_BOUNDS)
            for number in sizes:
                self._n_by_size[SIZES[number]] += 1
        best = float(iou(predicted, true).max()) if len(predicted) else 0.0
        for level, counts in self._counts.items():
            matched = match(predicted, predicted_boxes["score"], true, level)
            matched = matched[matched >= 0]
            counts.found += len(matched)
            counts.images_right += best >= level
            for number in sizes[matched]:
                counts.by_size[SIZES[number]] += 1

    def __add__(self, other: "BoxScores") -> "BoxScores":
        """Return the scores of the images of both, which share none; without recall by size."""
        both = BoxScores()
        both._seen, both._sized = self._seen | other._seen, False
        for name in ("_n_true", "_n_predicted", "_n_defective", "_n_good", "_false_on_good"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        for level, counts in both._counts.items():
            counts.found = self._counts[level].found + other._counts[level].found
            counts.images_right = self._counts[level].images_right + other._counts[level].images_right
        return both

    def compute(self) -> dict[str, Any]:
        """Return the scores at IoU 0.3 and 0.5 (`_30`, `_50`), each in [0, 1].

        `box_f1_*`, `box_precision_*`, `box_recall_*`: one-to-one matching over all images, each box on a good
        image false. `box_accuracy_*`: share of defective images of which some predicted box reaches the IoU with some
        true box. `false_boxes_per_good_image`. `box_recall_by_size`: per size `n`, `recall_30`, `recall_50`,
        None unless every defective image came with its size. `n_boxes` and `n_true_boxes` are counts.
        """
        result: dict[str, Any] = {"n_boxes": self._n_predicted, "n_true_boxes": self._n_true}
        for level, counts in self._counts.items():
            name = f"{100 * level:.0f}"
            measurable = self._n_true > 0
            result[f"box_f1_{name}"] = _rate(2 * counts.found, self._n_predicted + self._n_true, measurable)
            result[f"box_precision_{name}"] = _rate(counts.found, self._n_predicted, measurable)
            result[f"box_recall_{name}"] = _rate(counts.found, self._n_true)
            result[f"box_accuracy_{name}"] = _rate(counts.images_right, self._n_defective)
        result["false_boxes_per_good_image"] = _rate(self._false_on_good, self._n_good)
        result["box_recall_by_size"] = (
            {
                size: {
                    "n": n,
                    **{f"recall_{100 * level:.0f}": _rate(c.by_size[size], n) for level, c in self._counts.items()},
                }
                for size, n in self._n_by_size.items()
            }
            if self._sized and self._n_true
            else None
        )
        return result


def _rate(part: int, whole: int, measurable: bool = True) -> float | None:
    return part / whole if whole and measurable else None


def pointing_game(raw_map: ArrayLike, mask: ArrayLike, tolerance: float | None = None) -> float:
    """Return whether the map's maximum lies in the mask or within `tolerance` pixels of it: 1 or 0.

    Map and mask are `(H, W)`; unless given the tolerance is 15 px where the longer side has 224. Where the maximum is
    shared by several pixels, the share of them that hit, that is the expectation of a random choice; a flat map so
    scores chance. Raises DefectlocError for an empty mask and shapes that differ (Zhang et al., "Top-down Neural
    Attention by Excitation Backprop", IJCV 2018).
    """
    values, truth = finite_map(raw_map), np.asarray(mask) != 0
    if truth.shape != values.shape or not truth.any():
        raise DefectlocError(
            f"The pointing game needs a mask with a defect, of the map's shape {values.shape}: got {truth.shape} "
            f"with {int(truth.sum())} defect pixels."
        )
    reach = 15 * max(values.shape) / 224 if tolerance is None else tolerance
    distance = cv2.distanceTransform((~truth).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[values == values.max()] <= reach).mean())
