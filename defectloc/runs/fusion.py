"""The fusion of a run: memory bank and patch head together, and their maps."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from defectloc.data import splits
from defectloc.errors import DefectlocError
from defectloc.files import read_json
from defectloc.localization.combination import Combination
from defectloc.localization.normalization import GoodStatistics
from defectloc.model.levels import Level
from defectloc.model.memory_bank import Arrays, MemoryBank
from defectloc.model.patch_head import PatchHead, inner_folds
from defectloc.model.patch_training import Settings
from defectloc.progress import images_bar
from defectloc.runs import directory, products, tables
from defectloc.runs.bank import load_bank
from defectloc.runs.directory import Run
from defectloc.runs.products import Product
from defectloc.runs.shortcut_check import ShortcutCheck
from defectloc.runs.shortcut_table import SHORTCUT
from defectloc.runs.supervision import Supervision

if TYPE_CHECKING:
    # Lightning comes with it, which prediction does not need.
    from defectloc.runs.fold import Features, Fold

HEAD, COMBINATION = "patch_head.npz", "combination.json"
# Raised when the code changes what a fusion gives.
VERSION = 5


@dataclass(frozen=True)
class Fusion:
    """A memory bank, a patch head on the bank's standardised patches, and how their maps are combined."""

    bank: MemoryBank
    head: PatchHead
    combination: Combination

    def fuse(self, levels: Arrays, distances: NDArray) -> NDArray[np.float32]:
        """Give the fused maps `(N, h, w)` of images by their levels and their distances `(N, h, w)` in the bank."""
        return self.combination.apply(self.head.log_odds(self.bank.standardized(levels)), distances)


def fusion_maps(
    fold: "Fold", run: Run, bank_product: Product, cam_product: Product | None, supervision: Supervision
) -> Product:
    """Fit the fusion on all training images and write its maps of the held-out ones, unless they are there.

    With a class network, `shortcut.csv` beside the maps is its shortcut check (see `shortcut_table`).
    """
    settings = Settings(steps=fold.settings.patch_head.steps)
    made_from = {"version": VERSION, "memory": bank_product.name, "head": asdict(settings), **supervision.made_from}
    product = Product(bank_product.run, "fusion", made_from)
    if product.is_whole:
        return product
    started = time.perf_counter()
    distances = run.maps("memory", bank_product)
    of_good = directory.stacked(distances, fold.rows(splits.VALIDATION).query("label == 0"))
    scale = GoodStatistics.from_maps(of_good)
    bank, levels = load_bank(bank_product.folder, fold.device)
    fusion, training_distances = _fit(fold, bank, levels, scale, settings, supervision, of_good.shape[1:])
    print(f"fusion: {fusion.combination.message}", file=sys.stderr)
    held_out = fold.held_out
    of_held_out = directory.stacked(distances, held_out)
    fused: list[NDArray] = []
    with images_bar("fusion", len(held_out)) as advance:
        for batch in fold.features(held_out, levels):
            at = sum(len(each) for each in fused)
            arrays = _arrays(batch, levels)
            fused.append(fusion.fuse(arrays, of_held_out[at : at + len(arrays[0])]))
            advance(len(arrays[0]))
    shortcut, counts = None, (0, 0)
    if cam_product is not None:
        check = ShortcutCheck(fold, run.maps("cam", cam_product), scale)
        shortcut = check.table(distances)
        if training_distances is not None:
            train = fold.rows(splits.TRAIN)
            of_defective = training_distances[train["label"].to_numpy() == 1]
            counts = check.training_counts(train.query("label == 1"), of_defective)
    with product.making() as note:
        fusion.head.save(product.folder / HEAD)
        tables.write_json(product.folder / COMBINATION, fusion.combination.to_json())
        if shortcut is not None:
            tables.write_csv(product.folder / SHORTCUT, shortcut)
        grid = (distances.grid.stride, distances.grid.offset)
        products.write_maps(product.folder / products.MAPS, list(held_out["path"]), np.concatenate(fused), grid)
        note["training_counts"] = list(counts)
        note["seconds"] = round(time.perf_counter() - started, 3)
    return product


def load_fusion(folder: Path, bank: MemoryBank) -> Fusion:
    """Load the fusion of a product's folder, to go with its memory bank; raises DefectlocError where it is damaged."""
    combination = read_json(folder / COMBINATION)
    if combination is None:
        raise DefectlocError(f"{folder / COMBINATION} cannot be read; start the same 'defectloc train' again.")
    return Fusion(bank, PatchHead.load(folder / HEAD, str(bank.device)), Combination.from_json(combination))


def _fit(
    fold: "Fold",
    bank: MemoryBank,
    levels: list[Level],
    scale: GoodStatistics,
    settings: Settings,
    supervision: Supervision,
    shape: tuple[int, int],
) -> tuple[Fusion, NDArray | None]:
    """Fit the patch head on the training images, and choose the combination on each of them left out in turn.

    Returns the training images' distances `(N, h, w)` to the bank without their fold as well.
    """
    train = fold.rows(splits.TRAIN)
    labels, groups = train["label"].to_numpy(), train["group"]
    folds = inner_folds(labels, fold.settings.seed, groups.to_numpy() if groups.notna().all() else None)
    read, size = fold.reader(train, levels), fold.settings.features.batch_size

    def arrays(numbers: NDArray[np.intp]) -> list[NDArray]:
        return _arrays(read(numbers), levels)

    def patches(numbers: NDArray[np.intp]) -> torch.Tensor:
        return bank.standardized(arrays(numbers))

    distances = _held_out_distances(bank, labels, folds, arrays, size) if labels.any() else None
    unusual = None if distances is None else (distances - scale.mean) / scale.sd
    print(f"patch head: learning from {len(train)} images", file=sys.stderr)
    known = supervision.known(list(train["path"]), shape)
    head = PatchHead.fit(patches, labels, folds, fold.settings.seed, fold.device, settings, unusual, known)
    if head.n_members == 1 or distances is None:
        return Fusion(bank, head, Combination.fit((scale.mean, scale.sd))), distances
    batches = _batches(np.arange(len(train)), size)
    log_odds = np.concatenate([head.held_out_log_odds(patches(some), folds[some]) for some in batches])
    return Fusion(bank, head, Combination.fit((scale.mean, scale.sd), labels, folds, log_odds, distances)), distances


def _held_out_distances(
    bank: MemoryBank, labels: NDArray, folds: NDArray, arrays: Callable[[NDArray[np.intp]], Arrays], size: int
) -> NDArray | None:
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
    return np.stack([found[number] for number in range(len(labels))])


def _batches(numbers: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return np.split(numbers, range(size, len(numbers), size))


def _arrays(batch: "Features", levels: list[Level]) -> list[NDArray]:
    return [batch[level] for level in levels]
