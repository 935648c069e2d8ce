"""A map refined by its photograph, as nodes of an ONNX graph; the numbers are those of `localization/guided.py`."""

import numpy as np

from defectloc.deployment.graph import Graph
from defectloc.deployment.image import native
from defectloc.localization.guided import EPSILON, LEAST, MOST, radius_of
from defectloc.localization.maps import Grid

# Of a flat map the height is 0, which nothing may be divided by.
TINY = 1e-30


def refined(graph: Graph, cells: str, resized: str, size: tuple[int, int], grid: Grid) -> str:
    """Refine maps `(N, h, w)` to `(N, *size)` by photographs `(N, 3, *size)` in 0..255."""
    windows = _Windows(graph, size, radius_of(grid))
    mean, add = windows.mean, graph.add
    pixels = graph.constant(size[0], np.int64), graph.constant(size[1], np.int64)
    values = native(graph, cells, pixels, size, grid)
    level, height = _median(graph, cells), add("Sub", *(graph.reduce(each, values, 1, 2) for each in ("Max", "Min")))
    values = add("Sub", values, level)
    scaled = add("Div", resized, graph.constant(255.0))
    colours = add("Sub", scaled, graph.constant(0.5))
    red, green, blue = (add("Gather", colours, graph.constant(n, np.int64), axis=1) for n in range(3))
    weights, offset = _linear(graph, (red, green, blue), values, windows)
    result = mean(offset)
    for weight, colour in zip(weights, (red, green, blue), strict=True):
        result = add("Add", result, add("Mul", mean(weight), colour))
    zero, one = graph.constant(0.0), graph.constant(1.0)
    least = add("Max", add("Mul", height, graph.constant(LEAST)), graph.constant(TINY))
    left = add("Max", windows.highest(result), least)
    factor = mean(add("Clip", add("Div", windows.highest(values), left), one, graph.constant(MOST)))
    share = add("Clip", add("Div", result, left), zero, one)
    raised = add("Mul", result, add("Add", one, add("Mul", add("Sub", factor, one), share)))
    raised = add("Min", raised, add("Max", values, result))
    result = add("Where", add("Greater", result, zero), raised, result)
    result = add("Add", result, level)
    # Of the cells themselves, so that a flat map stays flat.
    low, high = (graph.reduce(each, cells, 1, 2) for each in ("Min", "Max"))
    return add("Min", add("Max", result, low), high)


def _median(graph: Graph, cells: str) -> str:
    """Give the lower of the two values in the middle of maps `(N, h, w)`, as `(N, 1, 1)`."""
    flat = graph.add("Reshape", cells, graph.integers(0, -1))
    half = graph.add("Div", graph.sides(flat, 1), graph.integers(2))
    highest = graph.top(flat, graph.add("Add", half, graph.integers(1)))
    return graph.add("Unsqueeze", graph.reduce("Min", highest, 1), graph.integers(2))


class _Windows:
    """Means, covariances and maxima of what lies inside square windows."""

    def __init__(self, graph: Graph, size: tuple[int, int], radius: int) -> None:
        self._graph, self._radius = graph, radius
        self._rows, self._columns = graph.constant(_window(size[0], radius)), graph.constant(_window(size[1], radius).T)

    def mean(self, values: str) -> str:
        return self._graph.add("MatMul", self._graph.add("MatMul", self._rows, values), self._columns)

    def highest(self, values: str) -> str:
        side, radius = 2 * self._radius + 1, self._radius
        channels = self._graph.add("Unsqueeze", values, self._graph.integers(1))
        found = self._graph.add("MaxPool", channels, kernel_shape=[side, side], pads=[radius] * 4)
        return self._graph.add("Squeeze", found, self._graph.integers(1))

    def covariance(self, one: str, other: str, mean_of_one: str, mean_of_other: str) -> str:
        product = self.mean(self._graph.add("Mul", one, other))
        return self._graph.add("Sub", product, self._graph.add("Mul", mean_of_one, mean_of_other))


def _window(n: int, radius: int) -> np.ndarray:
    near = np.abs(np.arange(n)[:, None] - np.arange(n)) <= radius
    return (near / near.sum(1, keepdims=True)).astype(np.float32)


def _linear(
    graph: Graph, colours: tuple[str, str, str], values: str, windows: _Windows
) -> tuple[tuple[str, str, str], str]:
    """Give the weights of the colours and the offset, as `localization/guided.py` does."""

    def less(one: str, *product: str) -> str:
        return graph.add("Sub", one, graph.add("Mul", *product))

    red, green, blue = colours
    mean_red, mean_green, mean_blue = means = [windows.mean(each) for each in colours]
    mean_value, epsilon = windows.mean(values), graph.constant(EPSILON)
    rr, gg, bb = (
        graph.add("Add", windows.covariance(each, each, mean, mean), epsilon)
        for each, mean in zip(colours, means, strict=True)
    )
    rg = windows.covariance(red, green, mean_red, mean_green)
    rb = windows.covariance(red, blue, mean_red, mean_blue)
    gb = windows.covariance(green, blue, mean_green, mean_blue)
    of_red, of_green, of_blue = (
        windows.covariance(each, values, mean, mean_value) for each, mean in zip(colours, means, strict=True)
    )
    to_green, to_blue = graph.add("Div", rg, rr), graph.add("Div", rb, rr)
    gg, gb, bb = less(gg, to_green, rg), less(gb, to_green, rb), less(bb, to_blue, rb)
    of_green, of_blue = less(of_green, to_green, of_red), less(of_blue, to_blue, of_red)
    onward = graph.add("Div", gb, gg)
    weight_blue = graph.add("Div", less(of_blue, onward, of_green), less(bb, onward, gb))
    weight_green = less(graph.add("Div", of_green, gg), onward, weight_blue)
    weight_red = less(less(graph.add("Div", of_red, rr), to_green, weight_green), to_blue, weight_blue)
    weights = (weight_red, weight_green, weight_blue)
    offset = mean_value
    for weight, mean in zip(weights, means, strict=True):
        offset = less(offset, weight, mean)
    return weights, offset
