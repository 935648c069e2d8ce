"""AUPIMO: how much of each defective image is found before the good images show anything."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.evaluation.masks import masks_beside
from defectloc.localization.histogram import N_BINS, add_counts, bins_of
from defectloc.localization.maps import finite_map

BOUNDS = (1e-5, 1e-4)
# Values that describe the defect pixels of one image; recall is that of all of them to within 1 / 4096.
N_VALUES = 4096


class PerImageOverlap:
    """Collect maps of good and defective images for AUPIMO (Bertoldo et al., BMVC 2024, arXiv 2401.01984).

    Per defective image the recall over its defect pixels, as a function of the false positive rate x shared by all:
    the mean over the good images of each one's share of pixels above the threshold. Its mean over ln x from 1e-5 to
    1e-4 is the image's score, in [0, 1]. Recall at x is the highest at a threshold whose shared rate is at most x, so
    good images of fewer than 100,000 pixels together ask for recall without any false positive; anomalib (as of its
    `metrics/pimo`) interpolates between thresholds instead, which differs by less than a step of the curve.

    Values are compared in bins of at most 2^-13 of their value, ties counting against the defect, and recall is known
    to 1 / 4096: 32 MB and 16 kB for each defective image.
    """

    def __init__(self) -> None:
        """Start without images."""
        self._good = np.zeros(N_BINS)
        self._n_good = 0
        self._defective: list[NDArray[np.int32]] = []

    def add(self, raw_map: ArrayLike, mask: ArrayLike | None, ignore: ArrayLike | None = None) -> None:
        """Add one image: map `(H, W)`, mask `(H, W)` nonzero = defect (None: good), pixels to leave out `(H, W)`.

        Normal pixels of defective images count nowhere; nor does an image whose defects are all left out. Raises
        DefectlocError for NaN, infinities and shapes that differ.
        """
        values = finite_map(raw_map)
        truth, left_out = masks_beside(values.shape, mask, ignore)
        counted = ~left_out
        if not truth.any():
            if counted.any():
                add_counts(self._good, values[counted], 1 / np.count_nonzero(counted))
                self._n_good += 1
        elif (truth & counted).any():
            self._defective.append(_spread(np.sort(bins_of(values[truth & counted])).astype(np.int32)))

    def image_scores(self) -> NDArray[np.float64]:
        """Return the AUPIMO of each defective image `(N,)`, in the order added; all NaN without a good image."""
        if self._n_good == 0:
            return np.full(len(self._defective), np.nan)
        levels = np.flatnonzero(self._good)[::-1]
        rate = np.cumsum(self._good[levels]) / self._n_good
        # Between the rates before and at a level, all that lies above the level is found.
        low, high = (np.clip(each, *BOUNDS) for each in (np.append(0.0, rate[:-1]), rate))
        weight = np.log(high / low) / np.log(BOUNDS[1] / BOUNDS[0])
        used = weight > 0
        levels, weight = levels[used], weight[used]
        found = [1 - np.searchsorted(bins, levels, side="right") / len(bins) for bins in self._defective]
        return np.array([float(np.clip(weight @ recall, 0, 1)) for recall in found])

    def compute(self) -> dict[str, float | None]:
        """Return `aupimo`, the mean over the defective images, in [0, 1]; None without a good or a defective image."""
        scores = self.image_scores()
        return {"aupimo": float(scores.mean()) if self._n_good and len(scores) else None}


def _spread(ordered: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return at most `N_VALUES` of the sorted values, each the middle one of an equal share of them."""
    n = len(ordered)
    if n <= N_VALUES:
        return ordered
    return ordered[((np.arange(N_VALUES) + 0.5) * n / N_VALUES).astype(np.intp)]
