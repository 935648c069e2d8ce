"""Defects of the synthetic board: copper that is missing or too much, as etching leaves it.

Canvases hold 0 or 255; lengths are in pixels of the canvas, or in cells where a name says so.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from defectloc.data.synthetic.layout import TRACK_WIDTH, Layout, fixed

_Point = NDArray[np.floating]
# The middle of a defect, and the polygons (N, 2) that are filled with copper (255) or freed of it (0).
_Defect = tuple[_Point, list[tuple[NDArray[np.floating], int]]]
# Near those of the boards of DeepPCB, which have 3 to 12 (Tang et al. 2019, arXiv:1902.06197).
_FEWEST, _MOST = 3, 10
_TRIES = 60
# Between the middles of two defects, in cells.
_APART = 1.5


class _Board:
    """What is asked of a board to find a place for a defect."""

    def __init__(self, copper: NDArray[np.uint8], holes: NDArray[np.uint8], layout: Layout, cell: float) -> None:
        self.copper, self.holes, self.layout, self.cell = copper, holes, layout, cell
        self.side = copper.shape[0]
        self.half = TRACK_WIDTH * cell / 2
        self._depth: dict[bool, NDArray[np.floating]] = {}
        self._nets: NDArray[np.int32] | None = None

    def is_copper(self, point: _Point) -> bool | None:
        """Tell whether there is copper at a point; None outside the board and in holes."""
        x, y = np.floor(point).astype(int).tolist()
        if not (0 <= x < self.side and 0 <= y < self.side) or self.holes[y, x]:
            return None
        return bool(self.copper[y, x])

    def net(self, point: _Point) -> int:
        """Number the connected piece of copper at a point."""
        if self._nets is None:
            self._nets = np.asarray(cv2.connectedComponents(self.copper)[1])
        x, y = np.floor(point).astype(int).tolist()
        return int(self._nets[y, x])

    def on_track(self, mark: np.random.Generator) -> tuple[_Point, _Point] | None:
        """Choose a point in the middle of a straight piece of track, away from pads, and the direction there."""
        tracks = self.layout.tracks
        track = tracks[int(mark.integers(len(tracks)))]
        i = int(mark.integers(len(track) - 1))
        start, end = track[i], track[i + 1]
        along = (end - start) / np.linalg.norm(end - start)
        point = start + mark.uniform(0.2, 0.8) * (end - start)
        sides = np.array([-along[1], along[0]]) * 1.5 * self.half
        # Copper beside the track belongs to a pad or an area.
        for station in (point, point - 0.45 * self.cell * along, point + 0.45 * self.cell * along):
            around = [self.is_copper(station + way * sides) for way in (0, 1, -1)]
            if around != [True, False, False]:
                return None
        return point, along

    def inside(self, mark: np.random.Generator, of_copper: bool, radius: float) -> _Point | None:
        """Choose a point in the copper, or beside it, that is at least `radius` from its edge."""
        if of_copper not in self._depth:
            region = self.copper if of_copper else cv2.bitwise_not(self.copper | self.holes)
            self._depth[of_copper] = np.asarray(cv2.distanceTransform(region, cv2.DIST_L2, 3), np.float32)
        step = max(1, int(self.cell / 10))
        y, x = np.nonzero(self._depth[of_copper][::step, ::step] >= radius)
        if not len(y):
            return None
        i = int(mark.integers(len(y)))
        return np.array([x[i], y[i]]) * step + 0.5


def damage(
    copper: NDArray[np.uint8],
    holes: NDArray[np.uint8],
    layout: Layout,
    cell: float,
    defect: str,
    mark: np.random.Generator,
) -> NDArray[np.uint8]:
    """Return the copper `(side, side)` with 3 to 10 defects of a type, fewer where there is no place for more."""
    board = _Board(copper, holes, layout, cell)
    damaged, margin = copper.copy(), 0.5 * cell
    wanted = int(mark.integers(_FEWEST, _MOST + 1))
    places: list[_Point] = []
    for _ in range(_TRIES * wanted):
        found = DEFECTS[defect](board, mark)
        if found is None:
            continue
        place, polygons = found
        near = any(np.linalg.norm(place - other) < _APART * cell for other in places)
        if near or (place < margin).any() or (place > board.side - margin).any():
            continue
        for outline, value in polygons:
            cv2.fillPoly(damaged, [fixed(outline)], value, cv2.LINE_8, 4)
        places.append(place)
        if len(places) == wanted:
            break
    damaged[holes > 0] = 0
    return damaged


def _blob(
    mark: np.random.Generator, centre: _Point, along: _Point, length: float, width: float
) -> NDArray[np.floating]:
    """Return the outline `(N, 2)` of an irregular ellipse with these half axes, the first of them along a direction."""
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False) + mark.uniform(0, 0.4)
    rim = 1 + mark.normal(0, 0.09, len(angle))
    across = np.array([-along[1], along[0]])
    return centre + np.outer(rim * np.cos(angle) * length, along) + np.outer(rim * np.sin(angle) * width, across)


def _direction(mark: np.random.Generator) -> _Point:
    angle = mark.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _open(board: _Board, mark: np.random.Generator) -> _Defect | None:
    """Interrupt a track."""
    found = board.on_track(mark)
    if found is None:
        return None
    point, along = found
    gap = mark.uniform(0.15, 0.38) * board.cell
    across = np.array([-along[1], along[0]])
    corners = [(-gap, -1.6), (mark.uniform(-0.3, 0.3) * gap - gap, 0), (-gap, 1.6)]
    corners += [(gap, 1.6), (gap + mark.uniform(-0.3, 0.3) * gap, 0), (gap, -1.6)]
    return point, [(np.array([point + a * along + b * board.half * across for a, b in corners]), 0)]


def _mouse_bite(board: _Board, mark: np.random.Generator) -> _Defect | None:
    """Take a piece out of the side of a track without interrupting it."""
    found = board.on_track(mark)
    if found is None:
        return None
    point, along = found
    across = np.array([-along[1], along[0]]) * float(mark.choice([-1, 1]))
    edge = point + board.half * across
    depth = mark.uniform(1.0, 1.5) * board.half
    return edge, [(_blob(mark, edge, along, mark.uniform(0.9, 1.7) * depth, depth), 0)]


def _spur(board: _Board, mark: np.random.Generator) -> _Defect | None:
    """Add a point of copper to the side of a track that does not reach the next one."""
    found = board.on_track(mark)
    if found is None:
        return None
    point, along = found
    across = np.array([-along[1], along[0]]) * float(mark.choice([-1, 1]))
    reach = board.half + mark.uniform(0.3, 0.6) * board.cell
    clear = np.linspace(1.3 * board.half, reach + 0.2 * board.cell, 12)
    beside = np.array([-0.35, 0, 0.35]) * board.cell
    if any(board.is_copper(point + far * across + shift * along) is not False for far in clear for shift in beside):
        return None
    base, lean = mark.uniform(0.16, 0.28) * board.cell, mark.uniform(-0.2, 0.2) * board.cell
    tip = point + reach * across + lean * along
    blunt = 0.45 * base * along
    wedge = np.array([point - base * along, tip - blunt, tip + blunt, point + base * along])
    rounding = _blob(mark, tip, along, 0.5 * base, 0.5 * base)
    return point + 0.5 * (board.half + reach) * across, [(wedge, 255), (rounding, 255)]


def _short(board: _Board, mark: np.random.Generator) -> _Defect | None:
    """Connect a track with the copper beside it that is not part of its net."""
    found = board.on_track(mark)
    if found is None:
        return None
    point, along = found
    across = np.array([-along[1], along[0]]) * float(mark.choice([-1, 1]))
    steps = np.arange(1.3 * board.half, board.half + 1.3 * board.cell, max(1.0, board.cell / 30))
    seen = [board.is_copper(point + far * across) for far in steps]
    reached = next((far for far, state in zip(steps, seen, strict=True) if state is not False), None)
    if reached is None or board.is_copper(point + reached * across) is None:
        return None
    other = point + (reached + 0.12 * board.cell) * across
    if board.is_copper(other) is not True or board.net(other) == board.net(point):
        return None
    width = mark.uniform(0.1, 0.2) * board.cell
    middle = 0.5 * (point + other) + mark.normal(0, 0.05) * board.cell * along
    waist = mark.uniform(0.6, 1.1) * width
    left = [point - width * along, middle - waist * along, other - width * along]
    right = [other + width * along, middle + waist * along, point + width * along]
    return middle, [(np.array([*left, *right]), 255)]


def _pin_hole(board: _Board, mark: np.random.Generator) -> _Defect | None:
    """Take a spot out of the middle of a pad or an area."""
    radius = mark.uniform(0.15, 0.26) * board.cell
    point = board.inside(mark, True, 1.25 * radius)
    if point is None:
        return None
    return point, [(_blob(mark, point, _direction(mark), radius, mark.uniform(0.75, 1.0) * radius), 0)]


def _spurious_copper(board: _Board, mark: np.random.Generator) -> _Defect | None:
    """Leave a spot of copper on the laminate that touches nothing."""
    radius = mark.uniform(0.17, 0.45) * board.cell
    point = board.inside(mark, False, 1.35 * radius)
    if point is None:
        return None
    return point, [(_blob(mark, point, _direction(mark), radius, mark.uniform(0.6, 1.0) * radius), 255)]


DEFECTS: dict[str, Callable[[_Board, np.random.Generator], _Defect | None]] = {
    "mouse_bite": _mouse_bite,
    "open": _open,
    "pin_hole": _pin_hole,
    "short": _short,
    "spur": _spur,
    "spurious_copper": _spurious_copper,
}
