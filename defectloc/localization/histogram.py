"""Bins over all finite float32 values, for what is too large to be kept; the same for any order of the images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of the 32 bits those for sign, exponent and the first 13 of the mantissa: a bin is at most 2^-13 of its value wide.
BITS = 22
N_BINS = 1 << BITS
_DROPPED = 32 - BITS
_PIECE = 1 << 22


def bins_of(values: ArrayLike) -> NDArray[np.int64]:
    """Return the bin of each value, in [0, 2^22), of any shape; a higher value is never in a lower bin."""
    # Adding 0 makes -0.0 equal to 0.0.
    bits = (np.asarray(values, dtype=np.float32) + np.float32(0)).view(np.int32)
    return (_in_order(bits) >> _DROPPED).astype(np.int64) + N_BINS // 2


def lowest_of(bins: ArrayLike) -> NDArray[np.float32]:
    """Return the lowest value of each bin, in the shape given."""
    ordered = (np.asarray(bins, dtype=np.int64) - N_BINS // 2 << _DROPPED).astype(np.int32)
    return _in_order(ordered).view(np.float32)


def highest_of(bins: ArrayLike) -> NDArray[np.float32]:
    """Return the highest value of each bin, in the shape given."""
    ordered = ((np.asarray(bins, dtype=np.int64) - N_BINS // 2 << _DROPPED) + (1 << _DROPPED) - 1).astype(np.int32)
    return _in_order(ordered).view(np.float32)


def _in_order(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn the bits of floats into integers of the same order, or back: those of one sign are in that of magnitude."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def add_counts(counts: NDArray, values: ArrayLike, weights: NDArray[np.float64] | float = 1) -> None:
    """Add to the counts `(2^22,)` in place the weight of the values that fall into each bin: one each, or one for all.

    The values may have any shape; weights `(N,)` go with the values in order.
    """
    flat = np.asarray(values).ravel()
    # In pieces, as the bins take more memory than the values.
    for start in range(0, len(flat), _PIECE):
        piece = slice(start, start + _PIECE)
        bins = bins_of(flat[piece])
        low = int(bins.min())
        bins -= low
        added = np.bincount(bins, weights[piece]) if isinstance(weights, np.ndarray) else np.bincount(bins) * weights
        counts[low : low + len(added)] += added
