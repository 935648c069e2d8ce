"""Refine a map from its cells to the pixels of the network's input, guided by the photograph's own edges.

He, Sun and Tang, "Guided Image Filtering", PAMI 2013, with a colour guide (equations 14 to 16): within each window the
map is taken to be linear in the photograph's colours, so that where the colours have an edge, the map gets one.
"""

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from defectloc.localization.maps import Grid, upsample

# Raised when the code changes the numbers of a refined map.
VERSION = 2
# Half the side of a window, in cells, and how much colours must vary in it to count, for values in [0, 1]; chosen on
# validation splits (docs/experiments/boxes.md).
RADIUS, EPSILON = 1.5, 1e-3
# Most that a height is raised by, and the least that is, as a share of the map's range.
MOST, LEAST = 3.0, 1e-4
# A photograph `(height, width, 3)` at the network's size, 0 to 1.
Guide: TypeAlias = NDArray[np.float32]
# Where the values of a refined map lie.
REFINED_GRID = Grid(1.0, 0.0)


def guide_of(photograph: NDArray[np.uint8], size: tuple[int, int]) -> Guide:
    """Resize a photograph `(H, W, 3)` as `data/resize.py` does: `(height, width, 3)` of the network's input, 0 to 1."""
    # In floats, since Pillow rounds bytes after each direction.
    channels = [Image.fromarray(photograph[..., channel].astype(np.float32)) for channel in range(3)]
    resized = [np.asarray(each.resize(size[::-1], Image.Resampling.BILINEAR)) for each in channels]
    return np.stack(resized, -1, dtype=np.float32) / np.float32(255)


def radius_of(grid: Grid) -> int:
    """Give half the side of a window, in pixels of the network's input."""
    return max(1, round(RADIUS * grid.stride))


def refined(cells: NDArray, guide: Guide, grid: Grid) -> NDArray[np.float32]:
    """Refine a map `(h, w)` to `(height, width)`, the size of the `guide` that `guide_of` gives.

    The filter also takes means, which a small defect disappears in. So what it leaves above the map's median is raised
    by up to `MOST` times, the highest values around until they are those of the map and lower ones by less, but nothing
    above the interpolated map. At the borders windows are cut off. No value leaves the range of the cells. A flat map
    stays flat. Raises DefectlocError for NaN and infinities.
    """
    size = (guide.shape[0], guide.shape[1])
    values = upsample(cells, size, size, grid)
    low, high = values.min(), values.max()
    if low == high:
        return values
    # Of less rounding around the middle of the range.
    colours, level = guide - np.float32(0.5), _median(cells)
    values = values - level
    radius = radius_of(grid)
    mean = _window_means(size, radius)
    red, green, blue = (np.ascontiguousarray(colours[..., channel]) for channel in range(3))
    weights, offset = _linear((red, green, blue), values, mean)
    result = mean(offset)
    for weight, channel in zip(weights, (red, green, blue), strict=True):
        result += mean(weight) * channel
    around = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    wanted, left = cv2.dilate(values, around), np.maximum(cv2.dilate(result, around), LEAST * (high - low))
    factor = mean((wanted / left).clip(1, MOST))
    raised = result * (1 + (factor - 1) * (result / left).clip(0, 1))
    result = np.where(result > 0, np.minimum(raised, np.maximum(values, result)), result) + level
    return result.clip(cells.min(), cells.max()).astype(np.float32)


def _median(cells: NDArray) -> np.float32:
    """Give the lower of the two in the middle."""
    return np.float32(np.partition(cells, (cells.size - 1) // 2, axis=None)[(cells.size - 1) // 2])


def shrunk(values: NDArray, size: tuple[int, int]) -> NDArray:
    """Give a refined map `(height, width)` as maxima of blocks, to be interpolated to `size` = (height, width) pixels.

    An axis is halved as long as it has twice the pixels of `size` or more. Interpolation looks at the two values next
    to each pixel's centre, and would pass over what lies between.
    """
    for axis, n_pixels in enumerate(size):
        while values.shape[axis] >= 2 * n_pixels:
            values = np.maximum.reduceat(values, np.arange(0, values.shape[axis], 2), axis=axis)
    return values


def _window_means(size: tuple[int, int], radius: int) -> Callable[[NDArray], NDArray]:
    """Give a function from `(height, width)` to its means over square windows, of what lies inside."""
    side = (2 * radius + 1, 2 * radius + 1)

    def sums(values: NDArray) -> NDArray:
        return cv2.boxFilter(values, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)

    n = sums(np.ones(size, np.float32))
    return lambda values: sums(values) / n


def _linear(
    colours: tuple[NDArray, NDArray, NDArray], values: NDArray, mean: Callable[[NDArray], NDArray]
) -> tuple[tuple[NDArray, NDArray, NDArray], NDArray]:
    """Give the weights of the colours, and the offset, that fit the values best in each window by ridge regression."""
    red, green, blue = colours
    mean_red, mean_green, mean_blue = (mean(each) for each in colours)
    rr = mean(red * red) - mean_red * mean_red + EPSILON
    rg = mean(red * green) - mean_red * mean_green
    rb = mean(red * blue) - mean_red * mean_blue
    gg = mean(green * green) - mean_green * mean_green + EPSILON
    gb = mean(green * blue) - mean_green * mean_blue
    bb = mean(blue * blue) - mean_blue * mean_blue + EPSILON
    mean_value = mean(values)
    of_red, of_green, of_blue = (
        mean(colour * values) - mean_colour * mean_value
        for colour, mean_colour in zip(colours, (mean_red, mean_green, mean_blue), strict=True)
    )
    # By elimination, which is as exact as the matrix is well conditioned; cofactors lose twice the digits.
    to_green, to_blue = rg / rr, rb / rr
    gg, gb, bb = gg - to_green * rg, gb - to_green * rb, bb - to_blue * rb
    of_green, of_blue = of_green - to_green * of_red, of_blue - to_blue * of_red
    onward = gb / gg
    weight_blue = (of_blue - onward * of_green) / (bb - onward * gb)
    weight_green = of_green / gg - onward * weight_blue
    weight_red = of_red / rr - to_green * weight_green - to_blue * weight_blue
    offset = mean_value - weight_red * mean_red - weight_green * mean_green - weight_blue * mean_blue
    return (weight_red, weight_green, weight_blue), offset
