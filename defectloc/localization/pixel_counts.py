"""How many normal and defect pixels have which value, over any number of maps in bounded memory."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.localization.histogram import N_BINS, add_counts, highest_of, lowest_of
from defectloc.localization.maps import finite_map

# Up to here every pixel is kept: with its class 84 MB, some 500 MB while they are sorted.
EXACT_PIXELS = 2**24


class PixelCounts:
    """Counts of normal and defect pixels by their value in float32.

    Exact up to `exact_pixels` pixels; beyond, values are counted in fixed bins that are at most 2**-13 (0.012 %) of
    the value wide, in 64 MB whatever the number of maps.
    """

    def __init__(self, exact_pixels: int = EXACT_PIXELS) -> None:
        self.n_maps = self.n_pixels = 0
        self._exact_pixels = exact_pixels
        self._values: list[NDArray[np.float32]] = []
        self._defect: list[NDArray[np.bool_]] = []
        self._bins: NDArray[np.int64] | None = None

    def add(self, values: ArrayLike, defect: ArrayLike | None = None, ignored: ArrayLike | None = None) -> None:
        """Count a map `(H, W)`, its defect pixels (nonzero; None: there are none) apart, ignored ones not at all.

        Raises DefectlocError where shapes differ and for NaN and infinities.
        """
        array = finite_map(values).astype(np.float32)
        masks = []
        for mask in (defect, ignored):
            masks.append(np.zeros(array.shape, bool) if mask is None else np.asarray(mask) != 0)
            if masks[-1].shape != array.shape:
                raise DefectlocError(
                    f"A map of shape {array.shape} has a mask of shape {masks[-1].shape}: resize one of them."
                )
        counted = ~masks[1]
        flat, truth = array[counted], masks[0][counted]
        self.n_maps += 1
        self.n_pixels += len(flat)
        if self._bins is None:
            self._values.append(flat)
            self._defect.append(truth)
            if self.n_pixels > self._exact_pixels:
                self._bins = np.zeros((2, N_BINS), np.int64)
                for kept, of_kept in zip(self._values, self._defect, strict=True):
                    self._count(kept, of_kept)
                self._values, self._defect = [], []
        else:
            self._count(flat, truth)

    def _count(self, values: NDArray[np.float32], defect: NDArray[np.bool_]) -> None:
        assert self._bins is not None
        for row, chosen in enumerate((~defect, defect)):
            if chosen.any():
                add_counts(self._bins[row], values[chosen])

    def table(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Return lowest and highest value, normal and defect pixels `(B,)` of each value or bin, in ascending order.

        Lowest and highest value are equal where the counts are exact.
        """
        if self._bins is None:
            values = np.concatenate([np.zeros(0, np.float32), *self._values])
            defect = np.concatenate([np.zeros(0, bool), *self._defect])
            levels, of_pixel = np.unique(values, return_inverse=True)
            n_all = np.bincount(of_pixel, minlength=len(levels))
            n_defect = np.bincount(of_pixel[defect], minlength=len(levels))
            return levels, levels, n_all - n_defect, n_defect
        used = np.flatnonzero(self._bins.any(0))
        low, high = lowest_of(used), highest_of(used)
        return low, high, self._bins[0, used], self._bins[1, used]
