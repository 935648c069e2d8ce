"""The trunk's levels of photographs in tiles: stored by tile, joined to one map when they are read."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from defectloc.config import TrainSettings
from defectloc.data.images import image_size, read_image, sides_of
from defectloc.data.recent import Recent
from defectloc.data.resize import resize
from defectloc.data.tiles import Joining, Size, Tiling, assembled, chosen_tile, cut
from defectloc.errors import DefectlocError
from defectloc.features.store import FeatureStore
from defectloc.model.classifier import Classifier
from defectloc.model.levels import Level
from defectloc.model.trunk import Trunk

Features = dict[Level, np.ndarray]


def tiling_of(
    settings: TrainSettings, sizes: Iterable[Size], classifier: Classifier, levels: Sequence[Level], trunk: Trunk
) -> Tiling | None:
    """Give the tiling that `data.tiles` asks for, `auto` by the medians of the photographs' sides; None for none.

    Says what was chosen and what it costs. Raises DefectlocError where the levels' cells do not fit the input.
    """
    data = settings.data
    if data.tiles == "none":
        return None
    if not levels:
        print(
            f"note: data.tiles={data.tiles} is for the memory bank and the patch head; there is none", file=sys.stderr
        )
        return None
    side, _ = sides_of(data.image_size)
    # Of the shorter and of the longer sides: photographs may lie and stand.
    shorter, longer = np.median(np.sort(list(sizes), axis=1), axis=0).round().astype(int).tolist()
    tile = chosen_tile((shorter, longer), side) if data.tiles == "auto" else int(data.tiles)
    about = f"data.tiles={data.tiles}: photographs of {longer} x {shorter} px (median sides)"
    if tile is None:
        print(f"{about} are seen whole", file=sys.stderr)
        return None
    classifier.check_size(side, levels)
    multiple = math.lcm(*(round(classifier.grid_of(level)[0]) for level in levels))
    if side % multiple:
        raise DefectlocError(f"data.image_size={side} must be a multiple of {multiple}, the stride of memory.levels.")
    tiling = Tiling(tile, side, float(data.tile_overlap), multiple)
    n_tiles = len(tiling.corners((shorter, longer)))
    height, width = tiling.input_size((shorter, longer))
    about += f" are seen at {width} x {height} px in {n_tiles} tiles, each of {tile} px at {side} px"
    black = torch.zeros(3, side, side)
    values = trunk([black], levels)
    for level, each in values.items():
        if each.shape[2:] != (side // round(classifier.grid_of(level)[0]),) * 2:
            raise DefectlocError(
                f"data.tiles={data.tiles} needs levels that cover the input; {level} of {classifier.backbone} has "
                f"{each.shape[3]} x {each.shape[2]} cells at {side} px."
            )
    if data.tiles == "auto":
        started = time.perf_counter()
        trunk([black], levels)
        seconds = n_tiles * (time.perf_counter() - started)
        size = n_tiles * sum(each.size for each in values.values()) * np.dtype(str(settings.features.dtype)).itemsize
        about += f"; about {seconds:.1f} s and {size / 2**20:.0f} MB of stored features a photograph"
    print(about, file=sys.stderr)
    return tiling


def tiles_of(image: NDArray[np.uint8], tiling: Tiling) -> list[torch.Tensor]:
    """Cut a photograph `(H, W, 3)` into the network's inputs `(3, S, S)`, in the order of the tiling's corners."""
    size = (image.shape[0], image.shape[1])
    resized = resize(image, tiling.input_size(size)).numpy()
    return [torch.from_numpy(cut(resized, corner, tiling.side)) for corner in tiling.corners(size)]


def levels_of(
    image: NDArray[np.uint8],
    tiling: Tiling,
    trunk: Callable[[Sequence[torch.Tensor], Sequence[Level]], Features],
    levels: Sequence[Level],
    batch_size: int,
) -> Features:
    """Give the trunk's levels `(1, C, h, w)` of a photograph `(H, W, 3)`, computed tile by tile."""
    size = (image.shape[0], image.shape[1])
    tiles, joining = tiles_of(image, tiling), {level: Joining(tiling, size) for level in levels}
    for start in range(0, len(tiles), batch_size):
        # Joined at once: all tiles together take twice as much memory as the photograph.
        for level, values in trunk(tiles[start : start + batch_size], levels).items():
            for tile in values:
                joining[level].add(tile)
    return {level: each.joined[None] for level, each in joining.items()}


class TiledLevels:
    """The levels of the photographs of a data set, in tiles; what is stored is stored by (photograph, tile)."""

    def __init__(
        self, root: Path, tiling: Tiling, trunk: Trunk, levels: Sequence[Level], settings: TrainSettings
    ) -> None:
        self._root, self._tiling, self._trunk, self._levels = root, tiling, trunk, list(levels)
        self._features = settings.features

    def fill(self, store: FeatureStore, images: pd.DataFrame, sizes: dict[str, Size]) -> None:
        """Compute what is missing in a store; each photograph is decoded once."""
        tiles = {
            name: (str(row.path), corner)
            for row in images.itertuples()
            for name, corner in self._tiles(str(row.digest), sizes[str(row.path)])
        }
        table = pd.DataFrame({"digest": list(tiles), "path": list(tiles)})
        # As many as there are threads to be at work on, and the one that they begin with.
        photograph = Recent(self._resized, max(1, self._features.workers) + 1)

        def tile(name: str) -> torch.Tensor:
            path, corner = tiles[name]
            # A copy, lest a tile that waits keeps its whole photograph.
            return torch.from_numpy(cut(photograph(path), corner, self._tiling.side).copy())

        names = [str(level) for level in self._levels]
        batch_size, workers = self._features.batch_size, self._features.workers
        store.ensure(table, names, self._trunk.by_name, tile, batch_size, workers, unit="tiles")

    def reader(
        self, store: FeatureStore | None, images: pd.DataFrame, sizes: dict[str, Size]
    ) -> Callable[[Iterable[int]], Features]:
        """Return what gives levels `(1, C, h, w)` of one of the images, by number: stored, or else computed."""
        paths = [str(path) for path in images["path"]]
        if store is None:
            return lambda numbers: self._computed(self._root / paths[_only(numbers)])
        names = [
            [name for name, _ in self._tiles(str(row.digest), sizes[str(row.path)])] for row in images.itertuples()
        ]
        starts = np.cumsum([0, *map(len, names)])
        flat = [name for each in names for name in each]
        stored = {level: store.read(flat, str(level)) for level in self._levels}

        def read(numbers: Iterable[int]) -> Features:
            number = _only(numbers)
            rows = range(starts[number], starts[number + 1])
            return {
                level: assembled((values[row] for row in rows), self._tiling, sizes[paths[number]])[None]
                for level, values in stored.items()
            }

        return read

    def _tiles(self, digest: str, size: Size) -> list[tuple[str, Size]]:
        return [(f"{digest}-{y}-{x}", (y, x)) for y, x in self._tiling.corners(size)]

    def _resized(self, path: str) -> NDArray:
        image = read_image(self._root / path)
        return resize(image, self._tiling.input_size((image.shape[0], image.shape[1]))).numpy()

    def _computed(self, path: Path) -> Features:
        return levels_of(read_image(path), self._tiling, self._trunk, self._levels, self._features.batch_size)


def _only(numbers: Iterable[int]) -> int:
    (number,) = numbers
    return number


def sizes_of(root: Path, images: pd.DataFrame) -> dict[str, Size]:
    """Read (height, width) of images in native pixels, by path."""
    return {str(path): image_size(root / path) for path in images["path"]}
