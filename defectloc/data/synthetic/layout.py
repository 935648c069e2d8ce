"""The layout of a synthetic circuit board: tracks, pads, holes and areas of copper, another one for each seed.

Lengths are in cells, the distance from one track to the next; x to the right and y down.
"""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

TRACK_WIDTH = 0.4
# The eight directions of a track, clockwise.
_STEPS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
_Node = tuple[int, int]


@dataclass
class Layout:
    """What is on a board: polylines of tracks and polygons of copper `(N, 2)`, discs and holes `(x, y, radius)`."""

    tracks: list[NDArray[np.floating]] = field(default_factory=list)
    polygons: list[NDArray[np.floating]] = field(default_factory=list)
    discs: list[tuple[float, float, float]] = field(default_factory=list)
    holes: list[tuple[float, float, float]] = field(default_factory=list)

    def moved(self, turn: NDArray[np.floating], scale: float, offset: NDArray[np.floating]) -> "Layout":
        """Return the layout turned by a `(2, 2)` matrix, scaled and shifted: from cells to pixels."""

        def place(points: NDArray[np.floating]) -> NDArray[np.floating]:
            return np.asarray(points @ turn.T * scale + offset)

        def round_ones(items: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
            return [(*place(np.array([x, y])).tolist(), radius * scale) for x, y, radius in items]

        return Layout(
            [place(track) for track in self.tracks],
            [place(polygon) for polygon in self.polygons],
            round_ones(self.discs),
            round_ones(self.holes),
        )


class Router:
    """Places parts on the nodes of a grid and leads tracks from node to node, so that none come too close."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        """The board has `n` x `n` nodes; a track may leave it by one."""
        self.layout = Layout()
        self._rng, self._n = rng, n
        self._taken: set[_Node] = set()
        # A diagonal may not pass a corner of a pad, nor another diagonal of the same square.
        self._pads: set[_Node] = set()
        self._squares: set[_Node] = set()

    def fill(self) -> Layout:
        """Cover the board with areas, chips, headers, buses and single tracks, in numbers that grow with its area."""
        share = self._n**2 / 256
        for place, least, most in (
            (self._area, 0.5, 1.5),
            (self._chip, 1.0, 2.2),
            (self._header, 0.3, 1.4),
            (self._bus, 1.5, 3.5),
            (self._single, 10, 18),
        ):
            wanted = max(1, round(share * self._rng.uniform(least, most)))
            done = 0
            for _ in range(8 * wanted):
                done += place()
                if done == wanted:
                    break
        return self.layout

    def _free(self, node: _Node) -> bool:
        return node not in self._taken and all(-2 <= value <= self._n + 1 for value in node)

    def _node(self) -> _Node:
        x, y = self._rng.integers(0, self._n, 2).tolist()
        return x, y

    def _area(self) -> bool:
        """Place a rectangle of copper with cut corners and a few plated holes."""
        x, y = self._node()
        width, height = self._rng.integers(2, 6, 2).tolist()
        nodes = [(x + i, y + j) for i in range(width + 1) for j in range(height + 1)]
        if not all(map(self._free, nodes)):
            return False
        self._taken |= set(nodes)
        self._pads |= set(nodes)
        left, top, right, low, cut = x - 0.2, y - 0.2, x + width + 0.2, y + height + 0.2, 0.45
        corners = [(left + cut, top), (right - cut, top), (right, top + cut), (right, low - cut)]
        corners += [(right - cut, low), (left + cut, low), (left, low - cut), (left, top + cut)]
        self.layout.polygons.append(np.array(corners))
        for i in self._rng.permutation(len(nodes))[: int(self._rng.integers(0, 4))]:
            self.layout.holes.append((*nodes[i], 0.16))
        return True

    def _chip(self) -> bool:
        """Place two rows of rectangular pads, from most of which a track leads away."""
        x, y = self._node()
        length, width = int(self._rng.integers(3, 8)), int(self._rng.integers(3, 6))
        upright = bool(self._rng.integers(2))

        def at(i: int, j: int) -> _Node:
            return (x + i, y + j) if upright else (x + j, y + i)

        if not all(self._free(at(i, j)) for i in range(length) for j in range(width)):
            return False
        half = np.array([0.35, 0.52] if upright else [0.52, 0.35])
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        pads = [(at(i, j), outward) for i in range(length) for j, outward in ((0, -1), (width - 1, 1))]
        self._taken |= {node for node, _ in pads}
        self._pads |= {node for node, _ in pads}
        for node, outward in pads:
            self.layout.polygons.append(np.array(node) + corners * half)
            if self._rng.uniform() < 0.8:
                away = outward if self._rng.uniform() < 0.8 else -outward
                self._route(node, {(-1, True): 6, (1, True): 2, (-1, False): 4, (1, False): 0}[away, upright])
        return True

    def _header(self) -> bool:
        """Place a row of round pads with holes."""
        x, y = self._node()
        across = bool(self._rng.integers(2))
        nodes = [(x + i, y) if across else (x, y + i) for i in range(int(self._rng.integers(2, 6)))]
        if not all(map(self._free, nodes)):
            return False
        self._taken |= set(nodes)
        self._pads |= set(nodes)
        for node in nodes:
            self.layout.discs.append((*node, 0.37))
            self.layout.holes.append((*node, 0.17))
            self._route(node, int(self._rng.choice([2, 6] if across else [0, 4])))
        return True

    def _bus(self) -> bool:
        """Lead several tracks side by side round the same bends."""
        x, y = self._node()
        direction = 2 * int(self._rng.integers(4))
        right, down = _STEPS[(direction + 2) % 8]
        turns = self._turns(int(self._rng.integers(5, 16)))
        starts = [(x + i * right, y + i * down) for i in range(int(self._rng.integers(2, 6)))]
        if not all(map(self._free, starts)):
            return False
        self._taken |= set(starts)
        routed = [self._route(start, direction, turns) for start in starts]
        return any(routed)

    def _single(self) -> bool:
        start = self._node()
        if not self._free(start):
            return False
        self._taken.add(start)
        return self._route(start, int(self._rng.integers(8)))

    def _turns(self, length: int) -> list[int]:
        return self._rng.choice([0, 1, -1], length, p=[0.74, 0.13, 0.13]).tolist()

    def _route(self, start: _Node, direction: int, turns: list[int] | None = None) -> bool:
        """Lead a track from a node, which is taken already, as far as it goes, and end it with a pad."""
        path = [start]
        for turn in [0, *(self._turns(int(self._rng.integers(2, 13))) if turns is None else turns)]:
            ways = (turn,) if turns is not None else (turn, 0, 1, -1)
            following = next((way for way in ways if self._passable(path[-1], direction + way)), None)
            if following is None:
                break
            direction = (direction + following) % 8
            path.append(self._take(path[-1], direction))
        if len(path) < 2:
            # A pad that nothing leads to would look like spurious copper.
            return False
        self.layout.tracks.append(np.array(path, float))
        for node in (path[0], path[-1]):
            if node not in self._pads:
                self._end(node)
        return True

    def _end(self, node: _Node) -> None:
        radius, hole = ((0.31, 0.14), (0.37, 0.17), (0.33, 0.0))[int(self._rng.choice(3, p=[0.45, 0.35, 0.2]))]
        self._pads.add(node)
        self.layout.discs.append((*node, radius))
        if hole:
            self.layout.holes.append((*node, hole))

    def _passable(self, node: _Node, direction: int) -> bool:
        right, down = _STEPS[direction % 8]
        corners = ((node[0] + right, node[1]), (node[0], node[1] + down))
        return self._free((node[0] + right, node[1] + down)) and not (
            right and down and (_square(node, right, down) in self._squares or any(c in self._pads for c in corners))
        )

    def _take(self, node: _Node, direction: int) -> _Node:
        right, down = _STEPS[direction]
        if right and down:
            self._squares.add(_square(node, right, down))
        following = (node[0] + right, node[1] + down)
        self._taken.add(following)
        return following


def _square(node: _Node, right: int, down: int) -> _Node:
    return min(node[0], node[0] + right), min(node[1], node[1] + down)


def random_layout(rng: np.random.Generator, cells: float, side: int) -> tuple[Layout, float]:
    """Lay out a board, `cells` cells across on `side` pixels, slightly turned; return it and the pixels of a cell."""
    cell = side / cells
    n = math.ceil(cells) + 2
    layout = Router(rng, n).fill()
    angle = math.radians(rng.normal(0, 1.2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = turn @ np.array([(n - 1) / 2, (n - 1) / 2]) * cell
    return layout.moved(turn, cell, side / 2 - middle + rng.uniform(-0.4, 0.4, 2) * cell), cell


def copper_of(layout: Layout, side: int, width: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Fill `(side, side)` canvases, 0 or 255: the copper, with tracks `width` pixels wide, and the holes."""
    copper, holes = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    for track in layout.tracks:
        cv2.polylines(copper, [fixed(track)], False, 255, max(1, round(width)), cv2.LINE_8, 4)
    for polygon in layout.polygons:
        cv2.fillPoly(copper, [fixed(polygon)], 255, cv2.LINE_8, 4)
    for canvas, items in ((copper, layout.discs), (holes, layout.holes)):
        for x, y, radius in items:
            cv2.circle(canvas, fixed(np.array([x, y])).tolist(), round(radius * 16), 255, -1, cv2.LINE_8, 4)
    copper[holes > 0] = 0
    return copper, holes


def fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Convert pixel positions to OpenCV's fixed-point numbers with four fractional bits."""
    return np.round((points - 0.5) * 16).astype(np.int32)
