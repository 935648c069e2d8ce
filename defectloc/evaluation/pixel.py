"""Scores of all pixels of all images: AUROC, average precision, AUPRO, best F1 and IoU, in bounded memory."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.evaluation.masks import masks_beside
from defectloc.evaluation.pixel_curve import KEYS, Curve
from defectloc.localization.boxes import label_components
from defectloc.localization.histogram import N_BINS, add_counts, lowest_of
from defectloc.localization.maps import finite_map

# Up to here every value is kept: 0.8 GB of normal pixels. A defect pixel needs 20 times the memory of a normal one.
EXACT_PIXELS = 200_000_000
DEFECT_PIXEL = 20


class PixelScores:
    """Collect maps and masks, then score every pixel of every image together, good images included.

    Pass maps that are comparable across images (raw or `good`, not min-max-normalised per image). Values are compared
    as float32. Exact up to 200 million pixels, of which each defect pixel counts as 20 (about 1 GB; 200 images of
    1000 x 1000). Beyond that values are counted in 2^22 bins, each at most 2^-13 of its value wide (100 MB for any
    number of images), and `pixel_error` bounds what that changes.
    """

    def __init__(self, limit: float = 0.3, exact_pixels: int = EXACT_PIXELS) -> None:
        """Set the false positive rate, in (0, 1], up to which AUPRO is integrated, and where binning starts."""
        if not 0 < limit <= 1:
            raise DefectlocError(f"AUPRO cannot be integrated up to a false positive rate of {limit}: give 0 to 1.")
        self.limit = limit
        self.exact_pixels = exact_pixels
        self._normal: list[NDArray[np.float32]] = []
        self._defect: list[NDArray[np.float32]] = []
        self._region: list[NDArray[np.int32]] = []
        self._n_regions = self._n_labels = self._places = 0
        self._bins: _Bins | None = None

    def add(self, raw_map: ArrayLike, mask: ArrayLike | None, ignore: ArrayLike | None = None) -> None:
        """Add one image: map `(H, W)`, mask `(H, W)` nonzero = defect (None: good), pixels to leave out `(H, W)`.

        Regions are the mask's 8-connected components before anything is left out, so a fixture across a defect does
        not make two of it. Raises DefectlocError for NaN, infinities and shapes that differ.
        """
        values = finite_map(raw_map).astype(np.float32)
        truth, left_out = masks_beside(values.shape, mask, ignore)
        defect, normal = truth & ~left_out, ~(truth | left_out)
        region = np.zeros(0, np.int32)
        if defect.any():
            region = label_components(truth)[0][defect] - 1
            self._n_regions += len(np.unique(region))
        self._collect(values[normal], values[defect], region)

    def _collect(self, normal: NDArray[np.float32], defect: NDArray[np.float32], region: NDArray[np.int32]) -> None:
        if self._bins is not None:
            self._bins.add(normal, defect, region)
            return
        self._normal.append(normal)
        self._defect.append(defect)
        self._region.append(region + np.int32(self._n_labels))
        self._n_labels += int(region.max()) + 1 if len(region) else 0
        self._places += len(normal) + DEFECT_PIXEL * len(defect)
        if self._places > self.exact_pixels:
            self._bins = _Bins()
            while self._normal:
                self._bins.add(self._normal.pop(), self._defect.pop(), self._region.pop())

    def compute(self) -> dict[str, float | None]:
        """Return `pixel_auroc, pixel_ap, aupro, pixel_f1_max, pixel_iou_max` in [0, 1], `pixel_threshold` and an error.

        AUPRO: over the false positive rate of all normal pixels, the mean over ground-truth regions of the share that
        is above the threshold, integrated to `limit`, interpolated there and divided by it (Bergmann et al., "MVTec
        AD", IJCV 2021); a perfect map scores 1, a constant one limit / 2. Best F1 and best IoU lie at the same
        threshold, `pixel_threshold`, above which a pixel counts as defective. `pixel_error` is 0 where every value was
        kept; else no score is further than that from the exact one. Without a defect pixel or without a normal one all
        are None.
        """
        if self._bins is None:
            self._normal, self._defect, self._region = (
                [_joined(each)] for each in (self._normal, self._defect, self._region)
            )
            curve, levels = _exact(self._normal[0], self._defect[0], self._region[0], self._n_regions)
        else:
            curve, levels = self._bins.curve(self._n_regions)
        if curve.n_normal == 0 or curve.n_defect == 0:
            return dict.fromkeys(KEYS)
        return {
            **curve.scores(self.limit),
            "pixel_threshold": float(np.nextafter(levels[curve.best()], np.float32(-np.inf))),
            "pixel_error": 0.0 if self._bins is None else curve.error(self.limit),
        }


def _joined(parts: list[NDArray]) -> NDArray:
    """Join arrays, letting go of each as it is copied, so that they are not held twice."""
    result = np.empty(sum(len(part) for part in parts), parts[0].dtype if parts else np.float32)
    end = len(result)
    while parts:
        part = parts.pop()
        result[end - len(part) : end] = part
        end -= len(part)
    return result


def _exact(normal: NDArray, defect: NDArray, region: NDArray, n_regions: int) -> tuple[Curve, NDArray[np.float32]]:
    # Sorting the normal and the defect pixels apart and looking the ones up among the others equals one sort of
    # all, and holds no index of the normal pixels, which are nearly all.
    normal.sort()
    order = np.argsort(defect)[::-1]
    defect, region = defect[order], region[order]
    # Of tied pixels only the last, at which all of them are in, is a point of the curves.
    last = np.flatnonzero(np.append(defect[1:] != defect[:-1], True)) if len(defect) else np.zeros(0, np.intp)
    levels = defect[last]
    shares = 1 / (np.bincount(region)[region] * n_regions) if len(region) else np.zeros(0)
    curve = Curve(
        tp=last + 1,
        fp_above=len(normal) - np.searchsorted(normal, levels, side="right"),
        fp=len(normal) - np.searchsorted(normal, levels, side="left"),
        pro=np.cumsum(shares)[last],
        n_defect=len(defect),
        n_normal=len(normal),
    )
    return curve, levels


class _Bins:
    """Counts of normal and defect pixels, and of defect pixels weighed by 1 / area of their region, per bin."""

    def __init__(self) -> None:
        self.normal, self.defect = np.zeros(N_BINS, np.int64), np.zeros(N_BINS, np.int64)
        self.by_region = np.zeros(N_BINS)

    def add(self, normal: NDArray, defect: NDArray, region: NDArray) -> None:
        add_counts(self.normal, normal)
        add_counts(self.defect, defect)
        if len(defect):
            # All pixels of a region come at once, so its area is known here.
            region = region - region.min()
            add_counts(self.by_region, defect, 1 / np.bincount(region)[region])

    def curve(self, n_regions: int) -> tuple[Curve, NDArray[np.float32]]:
        at = np.flatnonzero(self.defect)[::-1]
        above = np.cumsum(self.normal[::-1])[::-1]
        curve = Curve(
            tp=np.cumsum(self.defect[at]),
            fp_above=above[at] - self.normal[at],
            fp=above[at],
            pro=np.cumsum(self.by_region[at]) / max(n_regions, 1),
            n_defect=int(self.defect.sum()),
            n_normal=int(self.normal.sum()),
        )
        return curve, lowest_of(at)
