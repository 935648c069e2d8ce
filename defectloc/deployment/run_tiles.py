"""Large photographs in tiles, for `run_model.py` beside this file; needs NumPy and ONNX Runtime, nothing else.

A photograph is resized once and cut into squares of the network's input. Each goes through the graph of tiles by
itself, and the features of all are joined to those of the photograph.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Of a tile, twice the share by which it reaches beyond the photograph at least.
LEAST_REFLECTED = 0.25


def in_tiles(
    about: dict[str, Any], contents: dict[str, bytes], options: Any, names: list[str]
) -> Callable[[np.ndarray], dict[str, Any]]:
    """Give the outputs of these names as a function of one photograph `(1, H, W, 3)` uint8.

    `contents` are the files of the graphs, `options` those of a session of ONNX Runtime.
    """
    import onnxruntime

    declaration = bytes.fromhex(about["inner_outputs"]["declaration"])
    of_tile, of_photograph = (
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for content in (contents["tile.onnx"], contents["photograph.onnx"] + declaration)
    )

    def infer(images: np.ndarray) -> dict[str, Any]:
        inputs = {"image": images} | joined_levels(about, of_tile, images[0])
        return dict(zip(names, of_photograph.run(names, inputs), strict=True))

    return infer


def joined_levels(about: dict[str, Any], session: Any, image: np.ndarray) -> dict[str, np.ndarray]:
    """Give the levels `(1, C, h, w)` of a photograph `(H, W, 3)` uint8, by the names that `model.json` gives them.

    `session` is ONNX Runtime's for the graph of tiles.
    """
    tiling, names = about["tiling"], about["levels"]
    side, multiple = tiling["side"], tiling["multiple"]
    size = [max(1, round(n * side / tiling["tile"] / multiple)) * multiple for n in image.shape[:2]]
    resized = resize(image, size)
    rows, columns = (origins(tiling, length) for length in size)
    found: list[np.ndarray] = []
    places: list[list[tuple[Any, Any]]] = []
    for number, (y, x) in enumerate(itertools.product(rows, columns)):
        tile = resized[reflected(y, side, size[0])[:, None], reflected(x, side, size[1])]
        levels = session.run(names, {"tile": np.ascontiguousarray(tile.transpose(2, 0, 1)[None])})
        if not found:
            for level in levels:
                stride = side // level.shape[2]
                axes = [list(shares(*axis, side, stride)) for axis in ((rows, size[0]), (columns, size[1]))]
                places.append(list(itertools.product(*axes)))
                found.append(np.zeros((1, level.shape[1], size[0] // stride, size[1] // stride), np.float32))
        for joined, level, each in zip(found, levels, places, strict=True):
            (ys, to_ys, down), (xs, to_xs, across) = each[number]
            joined[..., to_ys, to_xs] += level[..., ys, xs] * (down[:, None] * across).astype(np.float32)
    return dict(zip(names, found, strict=True))


def origins(tiling: dict[str, Any], length: int) -> list[int]:
    """Give the corners of tiles along `length` pixels of the input, evenly spread from margin to margin."""
    side, multiple = tiling["side"], tiling["multiple"]
    shared = math.ceil(tiling["overlap"] * side / multiple) * multiple
    half = math.ceil(max(tiling["overlap"], LEAST_REFLECTED) * side / 2 / multiple) * multiple
    margin = min(half, (side - multiple) // 2 // multiple * multiple)
    rest = max(0, length + 2 * margin - side)
    n = math.ceil(rest / max(side - shared, multiple)) + 1
    return [rest * i // max(1, n - 1) // multiple * multiple - margin for i in range(n)]


def shares(corners: list[int], length: int, side: int, stride: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Give, for each tile along one axis, its cells, the photograph's cells they go to, and their weights.

    In the outer quarter of what two tiles share a tile's weight is 0; across the middle half one fades into the other.
    """
    centres = (np.arange(length // stride) + 0.5) * stride
    come_in = [np.ones(len(centres))]
    for before, corner in itertools.pairwise(corners):
        shared = before + side - corner
        fading = (centres - corner - shared / 4) / (shared / 2) if shared > 0 else (centres > corner).astype(float)
        come_in.append(np.clip(fading, 0, 1))
    come_in.append(np.zeros(len(centres)))
    for corner, one, following in zip(corners, come_in[:-1], come_in[1:], strict=True):
        first = corner // stride
        start, stop = max(0, first), min((corner + side) // stride, len(centres))
        yield slice(start - first, stop - first), slice(start, stop), (one - following)[start:stop]


def reflected(start: int, count: int, length: int) -> np.ndarray:
    """Give the positions in `length` pixels, reflected at both ends, of `count` ones from `start` on."""
    at = np.arange(start, start + count) % (2 * length)
    return np.where(at < length, at, 2 * length - 1 - at)


def resize(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a photograph `(H, W, 3)` to `(h, w, 3)` float32, antialiased and bilinear, as PyTorch does."""
    height, width = size
    columns = _along(image.reshape(len(image), -1), height).reshape(height, -1, 3).swapaxes(0, 1)
    return _along(columns.reshape(len(columns), -1), width).reshape(width, height, 3).swapaxes(0, 1)


def _along(values: np.ndarray, size: int) -> np.ndarray:
    """Interpolate the rows of values `(n, m)` to `(size, m)`: weights fall off over a pixel of the coarser scale."""
    n = len(values)
    reach = max(n / size, 1)
    centres = (np.arange(size) + 0.5) * n / size
    at = np.floor(centres - reach)[:, None].astype(int) + np.arange(int(2 * reach) + 3)
    weights = np.maximum(1 - np.abs(at + 0.5 - centres[:, None]) / reach, 0) * ((at >= 0) & (at < n))
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    found = np.empty((size, values.shape[1]), np.float32)
    for row, places, shares_of_places in zip(found, at.clip(0, n - 1), weights, strict=True):
        row[:] = shares_of_places @ values[places]
    return found
