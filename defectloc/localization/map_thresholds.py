"""Choose the threshold of maps on the validation split; pixels strictly above it belong to a defect."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from defectloc.localization.pixel_counts import PixelCounts
from defectloc.localization.thresholds import Chosen, NoThresholdError, below, checked_share


def good_quantile(maps: Iterable[tuple[ArrayLike, ArrayLike | None]], q: float) -> Chosen:
    """Return the smallest value that a share q, in [0, 1], of all pixels of good validation maps does not exceed.

    Pairs of a map `(H, W)`, all normalised alike, and the mask of its ignored pixels or None; no defect masks are
    needed. Exact up to `EXACT_PIXELS` pixels, beyond at most 0.012 % above the exact value. Raises NoThresholdError
    without a pixel, DefectlocError for NaN and infinities.
    """
    checked_share(q, "localization.quantile")
    counts = PixelCounts()
    for values, ignored in maps:
        counts.add(values, None, ignored)
    if counts.n_pixels == 0:
        raise NoThresholdError("The validation split has no good image to take a quantile from")
    _, high, normal, _ = counts.table()
    # As in NumPy's inverted_cdf.
    rank = max(int(np.ceil(counts.n_pixels * q - 1)), 0)
    value = float(high[np.searchsorted(np.cumsum(normal), rank, side="right")])
    sentence = f"A share of {q:g} of the pixels of {counts.n_maps} good validation images is at most {value:g}."
    return Chosen(value, sentence)


def from_masks(maps: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike | None]]) -> Chosen:
    """Return the map threshold with the best F1 (and so the best IoU) over all pixels of all validation images.

    Triples of a map `(H, W)`, its mask (nonzero = defect; empty for good images) and the mask of its ignored pixels or
    None. All thresholds are tried up to `EXACT_PIXELS` pixels, beyond those 0.012 % apart. Raises NoThresholdError for
    pixels of one class only, DefectlocError where shapes differ and for NaN and infinities.
    """
    counts = PixelCounts()
    for values, mask, ignored in maps:
        counts.add(values, mask, ignored)
    low, high, normal, defect = counts.table()
    n_defect = int(defect.sum())
    if n_defect in (0, counts.n_pixels):
        raise NoThresholdError("The validation masks hold one class of pixels only")
    caught, false = (np.cumsum(each[::-1])[::-1] for each in (defect, normal))
    f1 = 2 * caught / (caught + false + n_defect)
    # Between two defect values more pixels above the threshold are only more false ones, so the best cut is at one.
    f1[defect == 0] = -1
    best = len(f1) - 1 - int(f1[::-1].argmax())
    value = below(float(low[best]), high[:best])
    return Chosen(value, f"Pixel F1 on the validation masks is best, {f1[best]:.3f}, at {value:g}.")
