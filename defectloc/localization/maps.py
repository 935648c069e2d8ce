"""Interpolate a map from its grid to the image's own pixels, each grid cell at its place in the network's input."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.data.images import sides_of
from defectloc.errors import DefectlocError

# Maps `(N, h, w)`, or a list of `(h, w)` where they have several shapes.
Stack: TypeAlias = NDArray | list[NDArray]


def stack(maps: Iterable[NDArray]) -> Stack:
    """Stack maps `(h, w)` to `(N, h, w)` where they have one shape."""
    found = list(maps)
    return np.stack(found) if len({each.shape for each in found}) <= 1 else found


def mapped(function: Callable[[NDArray], NDArray], maps: Stack) -> Stack:
    """Apply what works on values one by one to maps."""
    return [function(each) for each in maps] if isinstance(maps, list) else function(maps)


@dataclass(frozen=True)
class Grid:
    """Where a backbone's grid cells lie: the centre of cell i is `offset + stride * i` network-input pixels.

    Pixel centres are at integers. VGG16's conv5 at 224 px has stride 16 and offset 7.5, ResNet-50 stride 32 and
    offset 0, DenseNet-121 stride 32 and offset 14.
    """

    stride: float
    offset: float

    def __post_init__(self) -> None:
        """Refuse a stride that orders no cells."""
        if not (np.isfinite(self.stride) and self.stride > 0 and np.isfinite(self.offset)):
            raise DefectlocError(
                f"A grid of stride {self.stride} and offset {self.offset} places no cells: "
                "give a finite stride above 0 and a finite offset."
            )


def finite_map(values: ArrayLike, what: str = "map") -> NDArray:
    """Return a map `(H, W)` as a float array; a DefectlocError refuses other shapes, NaN and infinities."""
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0:
        raise DefectlocError(
            f"A {what} must have the shape (height, width), not {array.shape}: pass one map at a time."
        )
    if array.dtype != np.float64:
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise DefectlocError(
            f"A {what} of shape {array.shape} holds NaN or infinite values: check the model or the file it came from."
        )
    return array


def full_colour(values: NDArray, low: float) -> float:
    """Give the value from which heat maps have their full colour; up to `low` they have none.

    One value in 200 reaches it, or half of those above `low` where that is more: where small defects lie in large
    photographs, fewer than one value in 200 may be above `low`.
    """
    above = values[values > low]
    return max(float(np.quantile(values, 0.995)), float(np.median(above)) if above.size else low, low + 1e-6)


def block_maxima(grid_map: NDArray, size: tuple[int, int], grid: Grid) -> tuple[NDArray, Grid]:
    """Give a map `(h, w)` as maxima of blocks of cells, where it has more cells than `size` = (height, width) pixels.

    Interpolation looks at the cells next to each pixel's centre only, and would pass over a small maximum between two.
    """
    if all(n_cells <= n_pixels for n_cells, n_pixels in zip(grid_map.shape, size, strict=True)):
        return grid_map, grid
    side = max(math.ceil(2 * n_cells / n_pixels) for n_cells, n_pixels in zip(grid_map.shape, size, strict=True))
    for axis in (0, 1):
        grid_map = np.maximum.reduceat(grid_map, np.arange(0, grid_map.shape[axis], side), axis=axis)
    return grid_map, Grid(grid.stride * side, grid.offset + grid.stride * (side - 1) / 2)


@lru_cache(maxsize=128)
def _weights(cells: int, pixels: int, side: int, grid: Grid) -> NDArray[np.float64]:
    """Return the interpolation weights `(pixels, cells)` of one axis; each row sums to 1."""
    at_input = (np.arange(pixels) + 0.5) * side / pixels - 0.5
    position = np.clip((at_input - grid.offset) / grid.stride, 0, cells - 1)
    left = np.floor(position).astype(np.intp)
    right = np.minimum(left + 1, cells - 1)
    weights = np.zeros((pixels, cells))
    rows = np.arange(pixels)
    np.add.at(weights, (rows, left), 1 - (position - left))
    np.add.at(weights, (rows, right), position - left)
    weights.setflags(write=False)
    return weights


def upsample(
    grid_map: ArrayLike, size: tuple[int, int], image_size: int | tuple[int, int], grid: Grid
) -> NDArray[np.float32]:
    """Interpolate a map `(h, w)` bilinearly between its cells' centres to `size` = (height, width) native pixels.

    `image_size` is the side of the network's square input, or its height and width. Native pixel centre x lies at
    `(x + 0.5) * input width / width - 0.5` in it; outside the outermost centres the map is clamped. No value leaves the
    range of the grid's values, and a flat map stays flat.
    Raises DefectlocError for NaN, infinities, other shapes and empty sizes.
    """
    values = finite_map(grid_map).astype(np.float64)
    height, width = (int(side) for side in size)
    input_height, input_width = sides_of(image_size)
    if min(height, width, input_height, input_width) < 1:
        raise DefectlocError(f"A map cannot be resized to {height} x {width} pixels: every side must be at least 1.")
    # Relative to its minimum a flat map is exact zeros, so rounding cannot give min-max normalisation noise to stretch.
    low, high = values.min(), values.max()
    rows = _weights(values.shape[0], height, input_height, grid)
    columns = _weights(values.shape[1], width, input_width, grid)
    result = rows @ (values - low) @ columns.T
    result += low
    return np.minimum(result, high, out=result).astype(np.float32)
