"""Scores of all pixels of all images: AUROC, average precision, AUPRO, best F1 and IoU, all from one sort."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.localization.boxes import label_components
from defectloc.localization.maps import finite_map

KEYS = ("pixel_auroc", "pixel_ap", "aupro", "pixel_f1_max", "pixel_iou_max", "pixel_threshold")


class PixelScores:
    """Collect maps and masks, then score every pixel of every image together, good images included.

    Pass maps that are comparable across images (raw or ``good``, not min-max-normalised per image). Values are compared
    as float32. Eight bytes per pixel at the peak, 12 more per defect pixel: 1 GB for a hundred maps of 1024 x 1024.
    """

    def __init__(self, limit: float = 0.3) -> None:
        """Set the false positive rate, in (0, 1], up to which AUPRO is integrated."""
        if not 0 < limit <= 1:
            raise DefectlocError(f"AUPRO cannot be integrated up to a false positive rate of {limit}: give 0 to 1.")
        self.limit = limit
        self._normal: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        self._defect: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        self._region: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
        self._n_regions = 0

    def add(self, heat: ArrayLike, mask: ArrayLike | None, ignore: ArrayLike | None = None) -> None:
        """Add one image: map ``(H, W)``, mask ``(H, W)`` nonzero = defect (None: good), pixels to leave out ``(H, W)``.

        Regions are the mask's 8-connected components before anything is left out, so a fixture across a defect does
        not make two of it. Raises DefectlocError for NaN, infinities and shapes that differ.
        """
        values = finite_map(heat).astype(np.float32)
        truth = np.zeros(values.shape, bool) if mask is None else np.asarray(mask) != 0
        left_out = np.zeros(values.shape, bool) if ignore is None else np.asarray(ignore) != 0
        if truth.shape != values.shape or left_out.shape != values.shape:
            raise DefectlocError(
                f"A map of shape {values.shape} has a mask of shape {truth.shape} and an ignore mask of shape "
                f"{left_out.shape}: bring them to one size."
            )
        defect = truth & ~left_out
        if defect.any():
            labels, _, areas = label_components(truth)
            self._defect.append(values[defect])
            self._region.append(labels[defect] - 1 + self._n_regions)
            self._n_regions += len(areas)
        normal = ~(truth | left_out)
        if normal.any():
            self._normal.append(values[normal])

    def compute(self) -> dict[str, float | None]:
        """Return ``pixel_auroc, pixel_ap, aupro, pixel_f1_max, pixel_iou_max`` in [0, 1] and ``pixel_threshold``.

        AUPRO: over the false positive rate of all normal pixels, the mean over ground-truth regions of the share that
        is hot, integrated to ``limit``, interpolated there and divided by it (Bergmann et al., "MVTec AD", IJCV 2021);
        a perfect map scores 1, a constant one limit / 2. Best F1 and best IoU lie at the same threshold,
        ``pixel_threshold``, above which a pixel counts as hot. Without a defect pixel or without a normal one all are
        None.
        """
        # The parts are joined in place, so that the pixels are held twice only while they are joined.
        self._normal, self._defect, self._region = (
            [np.concatenate(self._normal)],
            [np.concatenate(self._defect)],
            [np.concatenate(self._region)],
        )
        self._normal[0].sort()
        normal, defect, region = self._normal[0], self._defect[0], self._region[0]
        if len(normal) == 0 or len(defect) == 0:
            return dict.fromkeys(KEYS)
        # Sorting the normal and the defect pixels apart and looking the ones up among the others equals one sort of
        # all, and holds no index of the normal pixels, which are nearly all.
        order = np.argsort(defect)[::-1]
        defect, region = defect[order], region[order]
        # Of tied pixels only the last, at which all of them are in, is a point of the curves.
        last = np.flatnonzero(np.append(defect[1:] != defect[:-1], True))
        levels = defect[last]
        tp = last + 1
        fp_above = len(normal) - np.searchsorted(normal, levels, side="right")
        fp = len(normal) - np.searchsorted(normal, levels, side="left")
        sizes = np.bincount(region)
        shares = 1 / (sizes[region] * np.count_nonzero(sizes))
        pro = np.cumsum(shares)[last]
        recall = tp / len(defect)
        f1 = 2 * tp / (tp + fp + len(defect))
        best = int(f1.argmax())
        return {
            "pixel_auroc": _area(fp_above / len(normal), fp / len(normal), recall, 1.0),
            "pixel_ap": float(np.sum(np.diff(recall, prepend=0) * tp / (tp + fp))),
            "aupro": _area(fp_above / len(normal), fp / len(normal), pro / pro[-1], self.limit),
            "pixel_f1_max": float(f1[best]),
            "pixel_iou_max": float(tp[best] / (len(defect) + fp[best])),
            "pixel_threshold": float(np.nextafter(levels[best], np.float32(-np.inf))),
        }


def _area(before: NDArray, after: NDArray, hit: NDArray, limit: float) -> float:
    """Integrate a curve from (0, 0) to (1, 1) over x in [0, limit] and divide by the limit.

    At the k-th level the curve runs level from x = after[k - 1] to before[k], then straight up and right to
    (after[k], hit[k]): between two levels only normal pixels are added, at one all that are tied.
    """
    x = np.stack([before, after], axis=1).ravel()
    y = np.stack([np.append(0.0, hit[:-1]), hit], axis=1).ravel()
    x, y = np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])
    beyond = int(np.searchsorted(x, limit, side="right"))
    if beyond < len(x):
        share = (limit - x[beyond - 1]) / (x[beyond] - x[beyond - 1])
        y = np.append(y[:beyond], y[beyond - 1] + share * (y[beyond] - y[beyond - 1]))
        x = np.append(x[:beyond], limit)
    # Rounding must not carry a perfect map beyond 1.
    return float(np.clip(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / limit, 0.0, 1.0))
