"""Photographs to the network's size, and maps back to the photograph's pixels, as nodes of an ONNX graph.

Both are two matrix products whose weights the graph makes from the photograph's height and width. ONNX's own operator
`Resize` with antialiasing gives other numbers than torch (of an image of noise up to 11 grey levels apart in ONNX
Runtime 1.32), and OpenVINO 2026.4 reads it without antialiasing.
"""

import numpy as np
from numpy.typing import NDArray

from defectloc.deployment.graph import Graph
from defectloc.localization.maps import Grid


def resized(graph: Graph, images: str, size: tuple[int, int]) -> str:
    """Resize images `(N, H, W, 3)` uint8 to `(N, 3, *size)` in 0..255 as `data/resize.py` does."""
    rows, columns = (_antialiased(graph, graph.side(images, axis), n) for axis, n in zip((1, 2), size, strict=True))
    # Each row of pixels as one vector, so that the first product is a single one.
    flat = graph.add("Reshape", graph.cast(images, "FLOAT"), graph.integers(0, 0, -1))
    low = graph.add("Reshape", graph.add("MatMul", rows, flat), graph.integers(0, size[0], -1, 3))
    channels_first = graph.add("Transpose", low, perm=[0, 3, 1, 2])
    return graph.add("MatMul", channels_first, graph.add("Transpose", columns, perm=[1, 0]))


def _antialiased(graph: Graph, n_pixels: str, size: int) -> str:
    """Give the weights `(size, n_pixels)` of torch's antialiased bilinear interpolation; rows sum to 1.

    Weights fall linearly over a distance of one pixel of the coarser of both scales.
    """
    scale = graph.add("Div", graph.cast(n_pixels, "FLOAT"), graph.constant(float(size)))
    centres = graph.add("Mul", graph.constant(np.arange(size)[:, None] + 0.5), scale)
    places = graph.add("Add", _up_to(graph, n_pixels), graph.constant(0.5))
    reach = graph.add("Max", scale, graph.constant(1.0))
    weights = _triangle(graph, graph.add("Div", graph.add("Sub", places, centres), reach))
    return graph.add("Div", weights, graph.reduce("Sum", weights, 1))


def _up_to(graph: Graph, n: str) -> str:
    """Give 0, 1, ..., n - 1 as `(n,)`."""
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    return graph.cast(graph.add("Range", zero, n, one), "FLOAT")


def _triangle(graph: Graph, distances: str) -> str:
    return graph.add("Relu", graph.add("Sub", graph.constant(1.0), graph.add("Abs", distances)))


def native(graph: Graph, cells: str, pixels: tuple[str, str], size: tuple[int, int] | None, grid: Grid) -> str:
    """Give maps `(N, h, w)` in their photographs' pixels `(N, H, W)`, as `localization/maps.py` does.

    `pixels` are H and W, `size` height and width of the network's input; None where it is what the maps' cells cover.
    """
    rows, columns = (
        _at_centres(graph, n_pixels, graph.side(cells, axis), None if size is None else side, grid)
        for n_pixels, axis, side in zip(pixels, (1, 2), size or (0, 0), strict=True)
    )
    values = graph.add("MatMul", rows, cells)
    values = graph.add("MatMul", values, graph.add("Transpose", columns, perm=[1, 0]))
    # Rounding must not leave the range of the cells, so that a flat map stays flat.
    low, high = (graph.reduce(each, cells, 1, 2) for each in ("Min", "Max"))
    return graph.add("Min", graph.add("Max", values, low), high)


def _at_centres(graph: Graph, n_pixels: str, n_cells: str, side: int | None, grid: Grid) -> str:
    """Give the weights `(n_pixels, n_cells)` of linear interpolation between the cells' centres."""
    middles = graph.add("Add", _up_to(graph, n_pixels), graph.constant(0.5))
    if side is None:
        seen = graph.add("Mul", graph.cast(n_cells, "FLOAT"), graph.constant(grid.stride))
    else:
        seen = graph.constant(float(side))
    at_input = graph.add("Mul", middles, graph.add("Div", seen, graph.cast(n_pixels, "FLOAT")))
    places = graph.add("Sub", at_input, graph.constant(grid.offset + 0.5))
    return _interpolation(graph, graph.add("Div", places, graph.constant(grid.stride)), n_cells)


def moved(graph: Graph, values: str, grid: tuple[float, float], onto: tuple[float, float], cells: str) -> str:
    """Interpolate values `(N, C, h, w)` on a grid (stride, offset) to the cells of others, as `model/grids.py` does.

    `cells` `(N, C', H, W)` lie on the grid `onto`; gives `(N, C, H, W)`.
    """
    rows, columns = (_between(graph, graph.side(cells, axis), graph.side(values, axis), grid, onto) for axis in (2, 3))
    return graph.add("MatMul", graph.add("MatMul", rows, values), graph.add("Transpose", columns, perm=[1, 0]))


def _between(graph: Graph, n_wanted: str, n_cells: str, grid: tuple[float, float], onto: tuple[float, float]) -> str:
    """Give the share of each cell of a grid in each of another, `(n_wanted, n_cells)`."""
    steps = graph.add("Mul", _up_to(graph, n_wanted), graph.constant(onto[0] / grid[0]))
    return _interpolation(graph, graph.add("Add", steps, graph.constant((onto[1] - grid[1]) / grid[0])), n_cells)


def _interpolation(graph: Graph, places: str, n_cells: str) -> str:
    """Give the weights `(n, n_cells)` of linear interpolation at places `(n,)`, counted in cells."""
    numbers = _up_to(graph, n_cells)
    last = graph.add("Sub", graph.cast(n_cells, "FLOAT"), graph.constant(1.0))
    column = graph.add("Unsqueeze", graph.add("Clip", places, graph.constant(0.0), last), graph.integers(1))
    return _triangle(graph, graph.add("Sub", column, numbers))


def without_ignored(graph: Graph, values: str, images: str, ignored: NDArray[np.bool_]) -> str:
    """Set the ignored pixels of maps `(N, H, W)` to each map's minimum; the mask is resized by nearest.

    As by Pillow, but for pixels whose centre lies exactly between two of the mask, which Pillow rounds either way.
    """
    rows, columns = (
        _nearest(graph, graph.side(images, axis), n) for axis, n in zip((1, 2), ignored.shape, strict=True)
    )
    mask = graph.add("Gather", graph.constant(ignored, np.uint8), rows, axis=0)
    mask = graph.cast(graph.add("Gather", mask, columns, axis=1), "BOOL")
    return graph.add("Where", mask, graph.reduce("Min", values, 1, 2), values)


def _nearest(graph: Graph, n_pixels: str, n_kept: int) -> str:
    """Give the row of the mask for each pixel `(n_pixels,)`, in whole numbers: floor((x + 1/2) n_kept / n_pixels)."""
    zero, one, two = (graph.constant(number, np.int64) for number in range(3))
    numbers = graph.add("Range", zero, n_pixels, one)
    doubled = graph.add("Add", graph.add("Mul", numbers, two), one)
    kept = graph.add("Mul", doubled, graph.constant(n_kept, np.int64))
    return graph.add("Div", kept, graph.add("Mul", n_pixels, two))
