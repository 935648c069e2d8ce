"""The curves over all thresholds from which the pixel scores are read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEYS = ("pixel_auroc", "pixel_ap", "aupro", "pixel_f1_max", "pixel_iou_max", "pixel_threshold", "pixel_error")


@dataclass(frozen=True)
class Curve:
    """The K levels at which defect pixels lie, from the highest value down; all but the totals `(K,)`.

    A level is one value, or one bin of values. `tp` and `fp` count the defect and normal pixels at or above it,
    `fp_above` the normal ones above it; `pro` is the mean over regions of the share at or above it.
    """

    tp: NDArray
    fp_above: NDArray
    fp: NDArray
    pro: NDArray
    n_defect: int
    n_normal: int

    def scores(self, limit: float) -> dict[str, float]:
        """Return the scores of `KEYS` that are areas or maxima, AUPRO up to a false positive rate of `limit`."""
        recall = self.tp / self.n_defect
        f1 = self._f1()
        best = int(f1.argmax())
        before, after = self.fp_above / self.n_normal, self.fp / self.n_normal
        return {
            "pixel_auroc": _area(before, after, recall, 1.0),
            "pixel_ap": float(np.sum(np.diff(recall, prepend=0) * self.tp / (self.tp + self.fp))),
            "aupro": _area(before, after, self.pro / self.pro[-1], limit),
            "pixel_f1_max": float(f1[best]),
            "pixel_iou_max": float(self.tp[best] / (self.n_defect + self.fp[best])),
        }

    def best(self) -> int:
        """Return the level of the best F1, which is that of the best IoU."""
        return int(self._f1().argmax())

    def error(self, limit: float) -> float:
        """Return how far a score can be from that of the values themselves, where a level is a bin of them.

        Each area is bracketed by the best and the worst order of the pixels within the bins: for AUROC and AUPRO they
        differ from a straight line by a triangle each.
        """
        n_defect = np.diff(self.tp, prepend=0)
        width = (self.fp - self.fp_above) / self.n_normal
        scores = self.scores(limit)
        auroc = float((width * n_defect).sum()) / (2 * self.n_defect)
        inside = self.fp_above / self.n_normal < limit
        aupro = float((width * np.diff(self.pro, prepend=0))[inside].sum()) / (2 * limit * self.pro[-1])
        highest = float((n_defect * self.tp / (self.tp + self.fp_above)).sum()) / self.n_defect
        # The i-th defect pixel of a bin below all its normal ones: the sum over i is bounded by an integral.
        start = self.tp - n_defect + self.fp
        growth = np.log(np.divide(self.tp + self.fp, start, out=np.ones(len(start)), where=start > 0))
        lowest = float((n_defect - self.fp * growth).sum()) / self.n_defect
        f1 = float((2 * self.tp / (self.tp + self.fp_above + self.n_defect)).max())
        iou = f1 / (2 - f1)
        ap = max(highest - scores["pixel_ap"], scores["pixel_ap"] - lowest)
        return float(max(auroc, aupro, ap, f1 - scores["pixel_f1_max"], iou - scores["pixel_iou_max"]))

    def _f1(self) -> NDArray[np.float64]:
        return 2 * self.tp / (self.tp + self.fp + self.n_defect)


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
