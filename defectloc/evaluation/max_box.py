"""MaxBoxAccV2: how well some threshold of a map boxes a defect, by an oracle that picks it."""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from defectloc.localization.boxes import corners, iou, label_components
from defectloc.localization.maps import finite_map
from defectloc.localization.normalization import normalize

# MaxBoxAccV2 is defined on maps of this size.
MAX_BOX_SIZE = 224
# Far above the rounding of an IoU, far below a difference of two boxes.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Regions:
    """The regions above a threshold: their labels `(H, W)` from 1, the box `(N, 4)` and a flat place `(N,)` of each."""

    labels: NDArray[np.int32]
    boxes: NDArray[np.float64]
    places: NDArray[np.intp]

    @classmethod
    def above(cls, number: NDArray[np.int32], threshold: int) -> "_Regions":
        labels, boxes, _ = label_components(number > threshold)
        places, inside = np.empty(len(boxes), np.intp), np.flatnonzero(labels)
        places[labels.ravel()[inside] - 1] = inside
        return cls(labels, corners(boxes), places)


def _peaks(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """Give the flat places of pixels of which no neighbour is higher: each region has one at least."""
    return np.flatnonzero(values >= cv2.dilate(values, np.ones((3, 3), np.uint8)))


def _bounds(
    outer: _Regions, inner: _Regions, peaks: NDArray[np.intp], true: NDArray[np.float64]
) -> tuple[float, float]:
    """Give bounds of the best IoU with any true box `(M, 4)` at all thresholds between those of outer and inner.

    A region between lies inside one of the outer regions, and holds an inner one or a peak of its own, that is one of
    `peaks`. Its box lies then between theirs, and so do the box's common and joint area with a true box.
    """
    parents = outer.labels.ravel()[inner.places] - 1
    common, joint = _areas(outer.boxes, true)
    common_inner, joint_inner = _areas(inner.boxes, true)
    least = _share(common_inner, joint[parents]).max()
    most = _share(common[parents], joint_inner).max()
    alone = np.unique(outer.labels.ravel()[peaks]) - 1
    if len(alone):
        sizes = (true[:, 2:] - true[:, :2]).prod(1)
        most = max(most, _share(common[alone], np.broadcast_to(sizes, (len(alone), len(true)))).max())
    return float(least) - _ROUNDING, float(most) + _ROUNDING


def _areas(boxes: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the areas common to boxes `(N, 4)` and true boxes `(M, 4)`, and those of both together, `(N, M)`."""
    sides = np.minimum(boxes[:, None, 2:], true[:, 2:]) - np.maximum(boxes[:, None, :2], true[:, :2])
    common = np.maximum(sides, 0).prod(-1)
    sizes, true_sizes = ((each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, true))
    return common, sizes[:, None] + true_sizes - common


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


class MaxBoxAccV2:
    """Collect the best IoU at every threshold of each defective image (Choe et al., CVPR 2020 and arXiv 2007.04178).

    An oracle picks the threshold on the images that are scored and surplus boxes cost nothing: a figure to compare maps
    with the field's, not what a user gets.
    """

    taus = np.arange(1000) / 1000
    levels = (0.3, 0.5, 0.7)

    def __init__(self) -> None:
        """Start without images."""
        self._hits = np.zeros((len(self.levels), len(self.taus)), dtype=np.int64)
        self._n = 0

    def add(self, raw_map: ArrayLike, true_boxes: pd.DataFrame | ArrayLike) -> None:
        """Add a map `(H, W)`, by protocol 224 x 224, and the true boxes `(M, 4)` in the map's pixels.

        An image without true boxes is left out, as the protocol scores defective images only. Raises DefectlocError
        for NaN and infinities.
        """
        true = corners(true_boxes)
        values = finite_map(raw_map)
        if len(true) == 0:
            return
        self._hits += self._reached(normalize(values, "minmax"), true)
        self._n += 1

    def _reached(self, normalized: NDArray[np.float32], true: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which IoU any region's box has with any true box at each tau, `(3, 1000)`."""
        # A pixel of number k is above the first k taus, so taus between two numbers in use have the same regions.
        number = np.searchsorted(self.taus, normalized.astype(np.float64), side="left").astype(np.int32)
        ends = np.unique(number[number > 0])
        if len(ends) == 0:
            return np.zeros((len(self.levels), len(self.taus)), dtype=np.bool_)
        starts = np.concatenate([[0], ends[:-1]])
        levels = np.array(self.levels)
        peaks = _peaks(normalized)
        heights = number.ravel()[peaks]
        reached = np.zeros((len(levels), len(ends)), dtype=np.bool_)
        first, last = _Regions.above(number, starts[0]), _Regions.above(number, starts[-1])
        for place, regions in ((0, first), (-1, last)):
            reached[:, place] = iou(regions.boxes, true).max() >= levels
        # Regions above one tau and above a higher one bound all between, of which most need no look of their own.
        spans = [(0, first, len(ends) - 1, last)]
        while spans:
            low, outer, high, inner = spans.pop()
            if high - low < 2:
                continue
            least, most = _bounds(outer, inner, peaks[(heights > ends[low]) & (heights <= starts[high])], true)
            reached[:, low + 1 : high] = (least >= levels)[:, None]
            if np.any((least < levels) & (levels <= most)):
                middle = (low + high) // 2
                regions = _Regions.above(number, starts[middle])
                reached[:, middle] = iou(regions.boxes, true).max() >= levels
                spans += [(low, outer, middle, regions), (middle, regions, high, inner)]
        above = np.repeat(reached, ends - starts, axis=1)
        return np.pad(above, ((0, 0), (0, len(self.taus) - above.shape[1])))

    def compute(self) -> dict[str, float | None]:
        """Return `max_box_acc_v2`, in [0, 1], its parts `max_box_acc_30, _50, _70` and the oracle's taus.

        Each part is the highest share, over tau, of images with a box of that IoU; `tau_30, tau_50, tau_70` are the
        lowest tau that reaches it, None where the share is 0. Without a defective image all are None.
        """
        names = [f"{100 * level:.0f}" for level in self.levels]
        if self._n == 0:
            keys = ["max_box_acc_v2", *(f"max_box_acc_{name}" for name in names), *(f"tau_{name}" for name in names)]
            return dict.fromkeys(keys)
        accuracy = self._hits / self._n
        return {
            "max_box_acc_v2": float(accuracy.max(1).mean()),
            **{f"max_box_acc_{name}": float(row.max()) for name, row in zip(names, accuracy, strict=True)},
            **{
                f"tau_{name}": float(self.taus[row.argmax()]) if row.any() else None
                for name, row in zip(names, accuracy, strict=True)
            },
        }
