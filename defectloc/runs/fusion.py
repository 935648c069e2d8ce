"""The fusion of a run: memory bank and patch head together, and their maps."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from defectloc.data import splits
from defectloc.data.views import flip
from defectloc.errors import DefectlocError
from defectloc.files import read_json, write_json
from defectloc.localization.combination import Combination
from defectloc.localization.maps import Stack, mapped, stack
from defectloc.localization.normalization import Scale
from defectloc.model.bags import LEAST_PATCHES, MOST_PATCHES, REDRAWN, STANDING_OUT, Bags, Pieces
from defectloc.model.bands import bands, is_large
from defectloc.model.levels import Level
from defectloc.model.memory_bank import Arrays, MemoryBank
from defectloc.model.patch_head import PatchHead, inner_folds
from defectloc.model.patch_training import Settings
from defectloc.progress import images_bar
from defectloc.runs import bank_levels, products, tables
from defectloc.runs.bank import load_bank
from defectloc.runs.directory import Run
from defectloc.runs.fold import Features, Fold
from defectloc.runs.products import Product
from defectloc.runs.shortcut_check import ShortcutCheck
from defectloc.runs.supervision import Supervision

HEAD, COMBINATION = "patch_head.npz", "combination.json"
# Raised when the code changes what a fusion gives.
VERSION = 8


@dataclass(frozen=True)
class Fusion:
    """A memory bank, a patch head on the bank's standardised patches, and how their maps are combined."""

    bank: MemoryBank
    head: PatchHead
    combination: Combination

    def fuse(self, levels: Arrays, distances: NDArray) -> NDArray[np.float32]:
        """Give the fused maps `(N, h, w)` of images by their levels and their distances `(N, h, w)` in the bank."""
        found = [
            self.head.log_odds(self.bank.standardized(band)[:, rows]) for band, rows in bands(levels, self.bank.grids)
        ]
        return self.combination.apply(found[0] if len(found) == 1 else np.concatenate(found, 1), distances)


def fusion_maps(
    fold: Fold, run: Run, bank_product: Product, cam_product: Product | None, supervision: Supervision
) -> Product:
    """Fit the fusion on all training images and write its maps of the held-out ones, unless they are there.

    With a class network, `shortcut.csv` beside the maps is its shortcut check (see `tables.read_shortcut_table`).
    """
    settings = Settings(steps=fold.settings.patch_head.steps)
    made_from = {"version": VERSION, "memory": bank_product.name, "head": asdict(settings), **supervision.made_from}
    made_from["kept"] = [LEAST_PATCHES, MOST_PATCHES, STANDING_OUT, REDRAWN]
    if fold.tiling is not None:
        made_from[products.TILING] = fold.tiling.to_json()
    views = bank_levels.views_of(fold)
    if views != ["plain"]:
        made_from["views"] = views
    product = Product(bank_product.run, "fusion", made_from)
    if product.is_whole:
        return product
    started = time.perf_counter()
    distances = run.maps("memory", bank_product)
    of_good = products.stacked(distances, fold.rows(splits.VALIDATION).query("label == 0"))
    scale = Scale.of_good(of_good)
    bank, levels = load_bank(bank_product.folder, fold.device)
    fusion, training_distances = _fit(fold, bank, levels, scale, settings, supervision, of_good[0].shape)
    print(f"fusion: {fusion.combination.message}", file=sys.stderr)
    held_out = fold.held_out
    of_held_out = products.stacked(distances, held_out)
    fused: list[NDArray] = []
    with images_bar("fusion maps", len(held_out)) as advance:
        for batch in bank_levels.features(fold, held_out, levels):
            arrays = _arrays(batch, levels)
            fused += list(fusion.fuse(arrays, np.stack(list(of_held_out[len(fused) : len(fused) + len(arrays[0])]))))
            advance(len(arrays[0]))
    shortcut, counts = None, (0, 0)
    if cam_product is not None:
        check = ShortcutCheck(fold, run.maps("cam", cam_product), scale)
        shortcut = check.table(distances)
        if training_distances is not None:
            train = fold.rows(splits.TRAIN)
            of_defective = stack(training_distances[number] for number in np.flatnonzero(train["label"] == 1))
            counts = check.training_counts(train.query("label == 1"), of_defective)
    with product.making() as note:
        fusion.head.save(product.folder / HEAD)
        write_json(product.folder / COMBINATION, fusion.combination.to_json())
        if shortcut is not None:
            tables.write_csv(product.folder / tables.SHORTCUT, shortcut)
        grid = (distances.grid.stride, distances.grid.offset)
        products.write_maps(product.folder / products.MAPS, list(held_out["path"]), stack(fused), grid)
        note["training_counts"] = list(counts)
        note["seconds"] = round(time.perf_counter() - started, 3)
    return product


def load_parts(product: Product, device: str) -> tuple[MemoryBank, list[Level], Fusion | None]:
    """Load the memory bank of a product and its levels, and the fusion where the product is one.

    Raises DefectlocError where a part is damaged.
    """
    bank, levels = load_bank(products.bank_folder(product), device)
    if product.kind == "memory":
        return bank, levels, None
    combination = read_json(product.folder / COMBINATION)
    if combination is None:
        raise DefectlocError(f"{product.folder / COMBINATION} cannot be read; start the same 'defectloc train' again.")
    head = PatchHead.load(product.folder / HEAD, str(bank.device))
    return bank, levels, Fusion(bank, head, Combination.from_json(combination))


def _fit(
    fold: Fold,
    bank: MemoryBank,
    levels: list[Level],
    scale: Scale,
    settings: Settings,
    supervision: Supervision,
    shape: tuple[int, int],
) -> tuple[Fusion, Stack | None]:
    """Fit the patch head on the training images, and choose the combination on each of them left out in turn.

    The head learns from each view of an image as from a further one, that is left out with it. Returns the training
    images' distances `(N, h, w)` to the bank without their fold as well.
    """
    train = fold.rows(splits.TRAIN)
    labels, groups = train["label"].to_numpy(), train["group"]
    folds = inner_folds(labels, fold.settings.seed, groups.to_numpy() if groups.notna().all() else None)
    read, size = bank_levels.reader(fold, train, levels), bank_levels.batch_of(fold)

    def arrays(numbers: NDArray[np.intp]) -> list[NDArray]:
        return _arrays(read(numbers), levels)

    views = bank_levels.views_of(fold)
    readers = [read if view == "plain" else bank_levels.reader(fold, train, levels, view) for view in views]

    def opened(number: int) -> Pieces:
        """Open image i, in view v, by the number i + v x images."""
        levels_of_one = _arrays(readers[number // len(train)](np.array([number % len(train)])), levels)
        if not is_large(levels_of_one, bank.grids):
            whole = [bank.standardized(levels_of_one)[0].flatten(0, 1)]
            return lambda: whole
        return lambda: (
            bank.standardized(band)[0, rows].flatten(0, 1) for band, rows in bands(levels_of_one, bank.grids)
        )

    distances = _held_out_distances(bank, labels, folds, arrays, size) if labels.any() else None
    z_scores = None if distances is None else mapped(lambda values: (values - scale.zero) / scale.unit, distances)
    in_views = "" if views == ["plain"] else f" in {len(views)} views each"
    print(f"patch head: learning from {len(train)} images{in_views} in {settings.steps} steps", file=sys.stderr)
    shapes = bank_levels.shapes(fold, train, bank.grid, shape)
    known = supervision.known(list(train["path"]), shapes)
    n_views = len(views)
    head = PatchHead.fit(
        Bags(opened, np.tile([height * width for height, width in shapes], n_views)),
        np.tile(labels, n_views),
        np.tile(folds, n_views),
        fold.settings.seed,
        fold.device,
        settings,
        None if z_scores is None else _in_views(z_scores, views),
        None if known is None else _in_views(known, views),
    )
    if head.n_members == 1 or distances is None:
        return Fusion(bank, head, Combination.fit((scale.zero, scale.unit))), distances
    found = []
    for some in _batches(np.arange(len(train)), size):
        images = bands(arrays(some), bank.grids)
        parts = [head.held_out_log_odds(bank.standardized(band)[:, rows], folds[some]) for band, rows in images]
        found += list(np.concatenate(parts, 1))
    log_odds = stack(found)
    return Fusion(bank, head, Combination.fit((scale.zero, scale.unit), labels, folds, log_odds, distances)), distances


def _in_views(maps: Stack, views: list[str]) -> Stack:
    """Give the maps of all images in each view in turn."""
    return stack(flip(each, view) for view in views for each in maps)


def _held_out_distances(
    bank: MemoryBank, labels: NDArray, folds: NDArray, arrays: Callable[[NDArray[np.intp]], Arrays], size: int
) -> Stack | None:
    """Give the distances `(N, h, w)` of training images to the bank without the good ones of their fold.

    None where a fold has all that the bank holds.
    """
    found: dict[int, NDArray] = {}
    with images_bar("memory bank, left out", len(labels)) as advance:
        for number in np.unique(folds):
            rest = bank.without(np.flatnonzero(folds[labels == 0] == number))
            if rest is None:
                return None
            for some in _batches(np.flatnonzero(folds == number), size):
                found |= dict(zip(some.tolist(), rest.distances(arrays(some)), strict=True))
                advance(len(some))
    return stack(found[number] for number in range(len(labels)))


def _batches(numbers: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return np.split(numbers, range(size, len(numbers), size))


def _arrays(batch: Features, levels: list[Level]) -> list[NDArray]:
    return [batch[level] for level in levels]
