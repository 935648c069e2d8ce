"""Bands of a large photograph's levels, so that what is computed of its patches stays small."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from defectloc.model.grids import StrideOffset

# Cells of an image's finest level up to which all is computed at once.
MOST_CELLS = 2**14


def is_large(levels: Sequence[np.ndarray], grids: Sequence[StrideOffset]) -> bool:
    """Tell whether images of these levels `(N, C_i, h_i, w_i)` come in bands."""
    return math.prod(_finest(levels, grids)) > MOST_CELLS


def _finest(levels: Sequence[np.ndarray], grids: Sequence[StrideOffset]) -> tuple[int, int]:
    height, width = levels[list(grids).index(min(grids))].shape[2:]
    return height, width


def bands(levels: Sequence[np.ndarray], grids: Sequence[StrideOffset]) -> Iterator[tuple[list[np.ndarray], slice]]:
    """Give levels `(N, C_i, h_i, w_i)` in bands of rows, and which rows of each band's finest grid count.

    Small levels come whole. A band has two cells of the coarsest level more on both sides, all that local means and the
    interpolation between levels look at, so that the rows that count, one band after the other, are those of the whole.
    """
    height, width = _finest(levels, grids)
    if not is_large(levels, grids):
        yield list(levels), slice(0, height)
        return
    strides = [round(stride) for stride, _ in grids]
    # Rows of the finest grid after which the cells of all levels begin together.
    period = math.lcm(*strides) // min(strides)
    n_rows = max(1, MOST_CELLS // (len(levels[0]) * width * period)) * period
    for start in range(0, height, n_rows):
        stop = min(start + n_rows, height)
        low, high = max(0, start - 2 * period), stop + 2 * period
        # The last rows of a coarser level may be missing where the height is no multiple of its cells.
        band = [
            level[:, :, low * min(strides) // stride : high * min(strides) // stride]
            for level, stride in zip(levels, strides, strict=True)
        ]
        yield band, slice(start - low, stop - low)
