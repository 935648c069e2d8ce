"""A photograph in tiles: the size at which a network sees it, where its tiles lie, and how their cells become one map.

The photograph is resized once, by one factor, and cut into squares of the network's input whose corners are multiples
of the coarsest stride that is used. So the cells of all tiles lie on one grid, that of the whole photograph. Beyond its
border the photograph is reflected: a network pads with zeros, which would make the few cells along the border unlike
all others.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectloc.errors import DefectlocError

Size = tuple[int, int]
# Sides of the network's input from which on the longer side of a photograph is worth tiles, and tiles of twice that.
LARGE, VERY_LARGE = 2.0, 10.0
# Of a tile, twice the share by which it reaches beyond the photograph at least: zeros there would outweigh defects.
LEAST_REFLECTED = 0.25


@dataclass(frozen=True)
class Tiling:
    """Squares of `tile` native pixels, each seen at `side` x `side` pixels of the network's input.

    `overlap` is the share that neighbours have in common, at least; `multiple` is the stride, in pixels of the input,
    that corners and sizes are multiples of.
    """

    tile: int
    side: int
    overlap: float
    multiple: int

    @property
    def step(self) -> int:
        """Give the most pixels of the input from one tile's corner to the next one's."""
        shared = math.ceil(self.overlap * self.side / self.multiple) * self.multiple
        return max(self.side - shared, self.multiple)

    @property
    def margin(self) -> int:
        """Give the pixels of the input by which tiles reach beyond the photograph: half of what neighbours share."""
        share = max(self.overlap, LEAST_REFLECTED)
        half = math.ceil(share * self.side / 2 / self.multiple) * self.multiple
        return min(half, (self.side - self.multiple) // 2 // self.multiple * self.multiple)

    def input_size(self, size: Size) -> Size:
        """Give height and width at which a network sees a photograph of `size` = (height, width) native pixels."""
        height, width = (
            max(1, round(native * self.side / self.tile / self.multiple)) * self.multiple for native in size
        )
        return height, width

    def origins(self, length: int) -> list[int]:
        """Give the lower ends of tiles along an axis of `length` pixels, evenly spread from margin to margin.

        Both are in pixels of the network's input, counted from the photograph's border: the first one is -`margin`.
        Along an axis that is shorter than a tile there is one, which extends further beyond it.
        """
        rest = max(0, length + 2 * self.margin - self.side)
        n = math.ceil(rest / self.step) + 1
        return [rest * i // max(1, n - 1) // self.multiple * self.multiple - self.margin for i in range(n)]

    def corners(self, size: Size) -> list[Size]:
        """List the corners (y, x) of a photograph's tiles in pixels of the input, row by row."""
        rows, columns = (self.origins(length) for length in self.input_size(size))
        return [(y, x) for y in rows for x in columns]

    def cells(self, size: Size, stride: int) -> Size:
        """Give the shape (h, w) of a photograph's map on a grid of `stride` pixels of the input."""
        height, width = self.input_size(size)
        return height // stride, width // stride

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Tiling":
        """Make the tiling of `to_json`; raises DefectlocError where it is not that."""
        try:
            tile, side, multiple = (int(values[name]) for name in ("tile", "side", "multiple"))
            return cls(tile, side, float(values["overlap"]), multiple)
        except (KeyError, TypeError, ValueError) as error:
            raise DefectlocError(f"this is no tiling of photographs: {error!r}.") from error


def chosen_tile(size: Size, side: int) -> int | None:
    """Choose the side of tiles in native pixels for photographs of `size` and an input of `side`; None for no tiles.

    Below twice the input's side there are none; else tiles are seen pixel by pixel, those of very large photographs
    at half their size.
    """
    times = max(size) / side
    if times < LARGE:
        return None
    return side if times < VERY_LARGE else 2 * side


def shares(origins: list[int], side: int, length: int, stride: int) -> Iterator[tuple[slice, slice, NDArray]]:
    """Give, for each tile along one axis, n of its cells, the n cells of the map they go to, and weights `(n,)`.

    In pixels of the network's input: `origins` as of `Tiling.origins`, the `side` of a tile, the `length` of the axis,
    and the `stride` of the cells. Weights lie in [0, 1]; those of all tiles sum to 1 at every cell of the map. In the
    outer quarter of what two tiles share a tile's weight is 0, because zero padding at its border distorts its features
    there; across the middle half one fades into the other.
    """
    centres = (np.arange(length // stride) + 0.5) * stride
    # How far tile i and those after it have come in: nested, so that differences are weights.
    come_in = [np.ones(len(centres))]
    for before, origin in itertools.pairwise(origins):
        shared = before + side - origin
        if shared <= 0:
            come_in.append((centres > origin).astype(float))
        else:
            come_in.append(np.clip((centres - origin - shared / 4) / (shared / 2), 0, 1))
    come_in.append(np.zeros(len(centres)))
    for origin, one, following in zip(origins, come_in[:-1], come_in[1:], strict=True):
        first = origin // stride
        start, stop = max(0, first), min((origin + side) // stride, len(centres))
        yield slice(start - first, stop - first), slice(start, stop), (one - following)[start:stop]


class Joining:
    """Joins the maps `(C, h, w)` of a photograph's tiles, which come in the order of `corners`, one at a time."""

    def __init__(self, tiling: Tiling, size: Size) -> None:
        """`size` is that of the photograph in native pixels."""
        self._tiling, self._size = tiling, size
        self._places: Iterator[tuple[tuple[slice, slice, NDArray], tuple[slice, slice, NDArray]]] = iter(())
        self._joined: NDArray | None = None

    def add(self, tile: NDArray) -> None:
        """Add the next tile."""
        if self._joined is None:
            side, stride = self._tiling.side, self._tiling.side // tile.shape[1]
            rows, columns = (
                list(shares(self._tiling.origins(length), side, length, stride))
                for length in self._tiling.input_size(self._size)
            )
            self._places = itertools.product(rows, columns)
            self._joined = np.zeros((len(tile), *self._tiling.cells(self._size, stride)), tile.dtype)
        (ys, to_ys, down), (xs, to_xs, across) = next(self._places)
        weight = (down[:, None] * across).astype(np.float32)
        self._joined[:, to_ys, to_xs] += (tile[:, ys, xs] * weight).astype(tile.dtype)

    @property
    def joined(self) -> NDArray:
        """Give the photograph's own map `(C, H, W)`; where one tile alone counts, its values are unchanged."""
        assert self._joined is not None, "a photograph has at least one tile"
        return self._joined


def assembled(tiles: Iterable[NDArray], tiling: Tiling, size: Size) -> NDArray:
    """Join all tiles of a photograph at once (see `Joining`)."""
    joining = Joining(tiling, size)
    for tile in tiles:
        joining.add(tile)
    return joining.joined


def cut(image: NDArray, corner: Size, side: int) -> NDArray:
    """Cut a tile `(C, side, side)` out of an image `(C, H, W)`; beyond its borders the image is reflected."""
    rows, columns = (_reflected(at, side, length) for at, length in zip(corner, image.shape[1:], strict=True))
    return image[:, rows[:, None], columns]


def _reflected(start: int, count: int, length: int) -> NDArray[np.intp]:
    """Give the positions in `length` pixels, reflected at both ends, of `count` ones from `start` on."""
    at = np.arange(start, start + count) % (2 * length)
    return np.where(at < length, at, 2 * length - 1 - at)
