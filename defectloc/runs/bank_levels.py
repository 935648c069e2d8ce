"""The trunk's levels as memory bank and patch head see them: of photographs that are whole, or in tiles."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import pandas as pd

from defectloc.data.tiles import Size
from defectloc.model.levels import Level
from defectloc.model.tiled_levels import TiledLevels
from defectloc.model.trunk import Trunk
from defectloc.runs.fold import Features, Fold

TILES = "tiles"


def batch_of(fold: Fold) -> int:
    """Count the images that are given at once: one where they are in tiles, since those differ in shape."""
    return fold.settings.features.batch_size if fold.tiling is None else 1


def views_of(fold: Fold) -> list[str]:
    """List the views of a training image that the patch head learns from; of photographs in tiles the plain one."""
    return fold.views if fold.tiling is None else ["plain"]


def reader(
    fold: Fold, images: pd.DataFrame, levels: Sequence[Level], view: str = "plain"
) -> Callable[[Iterable[int]], Features]:
    """Return what gives levels `(n, C, h, w)` of up to `batch_of` images, by number; in tiles all of the bank's.

    Of photographs in tiles there is the plain view alone.
    """
    if fold.tiling is None:
        return fold.reader(images, levels, view)
    trunk = Trunk(fold.classifier, fold.device, fold.precision)
    tiled, store = TiledLevels(fold.root, fold.tiling, trunk, fold.bank_levels, fold.settings), None
    if fold.settings.features.cache:
        store = fold.stores.get(TILES)
        if store is None:
            tile = {"tile": fold.tiling.tile, "multiple": fold.tiling.multiple}
            store = fold.stores[TILES] = fold.empty_store({"view": TILES, **tile})
            tiled.fill(store, fold.catalog, fold.sizes)
    return tiled.reader(store, images, fold.sizes)


def features(fold: Fold, images: pd.DataFrame, levels: Sequence[Level]) -> Iterator[Features]:
    """Give the levels `(n, C, h, w)` in batches of images."""
    read, size = reader(fold, images, levels), batch_of(fold)
    for start in range(0, len(images), size):
        yield read(range(start, min(start + size, len(images))))


def shapes(fold: Fold, images: pd.DataFrame, grid: tuple[float, float], whole: Size) -> list[Size]:
    """Give the shapes (h, w) of images' maps on a grid of the bank; `whole` is that of an image that is whole."""
    if fold.tiling is None:
        return [whole] * len(images)
    return [fold.tiling.cells(fold.sizes[str(path)], round(grid[0])) for path in images["path"]]
