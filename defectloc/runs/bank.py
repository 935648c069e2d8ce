"""The memory bank of a run: patches of its good training images, and the maps of distances to them."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.data import splits
from defectloc.errors import DefectlocError
from defectloc.localization.maps import stack
from defectloc.model.levels import Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import Novelty, mean_patches
from defectloc.progress import images_bar, say_begun
from defectloc.runs import bank_levels, products, tables
from defectloc.runs.fold import Fold
from defectloc.runs.products import Product

BANK, NOVELTY = "bank.npz", "novelty.npz"
# With fewer good images a bank hardly covers how good parts vary.
FEW_GOOD = 5
# Raised when the code changes what a bank holds or measures.
VERSION = 9


def product_of(fold: Fold, folder: Path) -> Product:
    """Name the bank of a fold's settings."""
    memory = fold.settings.memory
    made_from: dict[str, Any] = {
        "version": VERSION,
        "levels": [str(level) for level in fold.bank_levels],
        "dims": memory.dims,
        "budget_mb": memory.budget_mb,
    }
    if not fold.cached and fold.settings.features.cache:
        # The fit does not depend on what is stored, so that its fingerprint does not name it, but the bank does.
        made_from["dtype"] = str(fold.settings.features.dtype)
    if fold.tiling is not None:
        made_from[products.TILING] = fold.tiling.to_json()
    return Product(folder, "memory", made_from)


def bank_maps(fold: Fold, folder: Path) -> Product:
    """Fit the memory bank on the good training images, and write its maps of the held-out ones once."""
    product = product_of(fold, folder)
    if product.is_whole:
        return product
    started = time.perf_counter()
    memory, classifier, levels = fold.settings.memory, fold.classifier, fold.bank_levels
    good, held_out = fold.rows(splits.TRAIN).query("label == 0"), fold.held_out
    if len(good) < FEW_GOOD:
        print(f"note: the memory bank rests on {len(good)} good training images only", file=sys.stderr)
    grids = [classifier.grid_of(level) for level in levels]
    say_begun(f"memory bank: {len(good)} good training images")
    bank = MemoryBank.fit(
        lambda: ([batch[level] for level in levels] for batch in bank_levels.features(fold, good, levels)),
        len(good),
        grids,
        memory.dims,
        round(memory.budget_mb * 2**20),
        fold.settings.seed,
        fold.device,
    )
    found: list[np.ndarray] = []
    means = []
    with images_bar("memory bank maps", len(held_out)) as advance:
        for batch in bank_levels.features(fold, held_out, levels):
            arrays = [batch[level] for level in levels]
            found += list(bank.distances(arrays))
            means.append(mean_patches(arrays))
            advance(len(means[-1]))
    maps, means_of_held_out = stack(found), np.concatenate(means)
    novelty = _novelty(fold, levels, means_of_held_out)
    with product.making() as note:
        bank.save(product.folder / BANK)
        if novelty is not None:
            novelty.save(product.folder / NOVELTY)
            novelties = pd.DataFrame({"path": held_out["path"], "novelty": novelty.of_means(means_of_held_out)})
            tables.write_csv(product.folder / tables.NOVELTIES, novelties)
        products.write_maps(product.folder / products.MAPS, list(held_out["path"]), maps, bank.grid)
        note["seconds"] = round(time.perf_counter() - started, 3)
    return product


def _novelty(fold: Fold, levels: list[Level], means: np.ndarray) -> Novelty | None:
    """Learn what is unlike the training photographs; None without a validation split. `means`: of held-out images."""
    validation = (fold.held_out["split"] == splits.VALIDATION).to_numpy()
    if not validation.any():
        return None
    train = fold.rows(splits.TRAIN)
    batches = bank_levels.features(fold, train, levels)
    training = np.concatenate([mean_patches([batch[level] for level in levels]) for batch in batches])
    return Novelty.fit(training[(train["label"] == 0).to_numpy()], training, means[validation])


def load_novelty(folder: Path) -> Novelty | None:
    """Load the limits of novelty of a bank's folder; None for a bank that was made without a validation split."""
    return Novelty.load(folder / NOVELTY) if (folder / NOVELTY).is_file() else None


def load_bank(folder: Path, device: str) -> tuple[MemoryBank, list[Level]]:
    """Load the memory bank of a product's folder, and name the trunk's levels that it takes."""
    note = products.read_note(folder)
    try:
        assert note is not None
        levels = [Level.parse(text) for text in note["made_from"]["levels"]]
    except (AssertionError, KeyError, TypeError) as error:
        raise DefectlocError(f"{folder} is not whole; start the same 'defectloc train' again.") from error
    return MemoryBank.load(folder / BANK, device), levels
