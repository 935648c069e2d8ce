"""What a run knows of good parts: the memory and its maps, the fused maps, and what the decision rests on."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from defectloc import runs
from defectloc.data import splits
from defectloc.fold import Fold, level_batches
from defectloc.localization.normalization import GoodStatistics
from defectloc.progress import images_bar

if TYPE_CHECKING:
    from defectloc.model.classifier import Classifier
    from defectloc.model.fusion import Fusion
    from defectloc.model.memory import Arrays, GoodMemory

# Of fewer good images a memory hardly knows what varies.
FEW_GOOD = 5
# Raised when the code changes what a memory or a fusion gives.
MEMORY_VERSION = 2
FUSION_VERSION = 3


def remember(fold: Fold, folder: Path) -> None:
    """Fit the memory of the good training images, and write its maps of the validation and test images."""
    from defectloc.model.memory import GoodMemory

    settings, classifier, levels = fold.settings.memory, fold.classifier, fold.memory_levels
    options = (settings.reduction, settings.sampling, settings.position)
    key = json.dumps([levels, settings.dims, settings.budget_mb, fold.settings.seed, *options, MEMORY_VERSION])
    path = folder / runs.maps_name("memory")
    if path.is_file() and runs.read_maps(path).key == key:
        return
    started = time.perf_counter()
    good, held_out = _good(fold), _held_out(fold)
    batches = level_batches(fold, levels)
    budget = round(settings.budget_mb * 2**20)
    if len(good) < FEW_GOOD:
        print(f"note: the memory rests on {len(good)} good training images only", file=sys.stderr)
    memory = GoodMemory.fit(
        lambda: batches(good), len(good), settings.dims, budget, fold.settings.seed, fold.device, *options
    )
    with images_bar("memory", len(held_out)) as advance:
        found = []
        for batch in batches(held_out):
            found.append(memory.distances(batch))
            advance(len(found[-1]))
    # First, since what is left of a break must not pass for a finished memory.
    for kind in ("memory", "fusion"):
        runs.forget(folder, kind)
    memory.save(folder / runs.MEMORY, key)
    runs.note_digest(folder, runs.MEMORY)
    grid = min(classifier.grid_of(level) for level in levels)
    runs.write_maps(path, list(held_out["path"]), np.concatenate(found), grid, key)
    runs.note_seconds(folder, "memory", time.perf_counter() - started)


def combine(fold: Fold, folder: Path) -> None:
    """Teach the fusion by the labelled training images; write its maps, and `evidence.csv`."""
    from defectloc.model import weights
    from defectloc.model.fusion import Fusion
    from defectloc.model.memory import GoodMemory

    remembered = runs.read_maps(folder / runs.maps_name("memory"))
    path = folder / runs.maps_name("fusion")
    key = f"{remembered.key} {FUSION_VERSION}"
    if path.is_file() and runs.read_maps(path).key == key:
        return
    started = time.perf_counter()
    good, held_out = _good(fold), _held_out(fold)
    of_good = [remembered.cells[name] for name in held_out.query("label == 0 and split == 'validation'")["path"]]
    scale = GoodStatistics.from_maps(of_good)
    memory = GoodMemory.load(folder / runs.MEMORY, remembered.key, fold.device)
    classifier = weights.restore(folder / runs.CHECKPOINT).to(fold.device)
    batches = level_batches(fold, fold.memory_levels)
    both = level_batches(fold, [*fold.memory_levels, classifier.level])
    defective = fold.rows(splits.TRAIN).query("label == 1")
    fusion = Fusion.fit(
        memory,
        (scale.mean, scale.sd),
        np.stack(of_good),
        lambda: batches(good),
        lambda: batches(defective),
        (inputs for *_, inputs in both(good)),
        len(good),
        fold.settings.seed,
    )
    if fusion.patches is None:
        print("note: too little is unusual about the defective training images to learn from", file=sys.stderr)
    seen = []
    with images_bar("fusion", len(defective) + len(held_out)) as advance:
        taught = _taught(fusion, classifier, both(defective), advance)
        for *levels, inputs in both(held_out):
            seen.append(fusion.look(classifier, levels, inputs))
            advance(len(inputs))
    fused, kept_log_odds, kept = (
        np.concatenate([getattr(each, name) for each in seen]) for name in ("fused", "kept_log_odds", "kept")
    )
    maps = runs.read_maps(folder / runs.maps_name("cam"))
    positive = np.stack([maps.cells[name] for name in held_out["path"]]).clip(0)
    evidence = held_out[["path"]].assign(
        kept_log_odds=kept_log_odds,
        kept_area=kept.mean((1, 2)),
        kept_evidence=(positive * kept).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-9),
    )
    runs.forget(folder, "fusion")
    fusion.save(folder / runs.FUSION, key)
    runs.note_digest(folder, runs.FUSION)
    runs.note_taught(folder, *taught)
    (folder / "figures" / "evidence.png").unlink(missing_ok=True)
    runs.write_csv(folder / runs.EVIDENCE, evidence)
    runs.write_maps(path, list(held_out["path"]), fused, remembered.grid, key)
    runs.note_seconds(folder, "fusion", time.perf_counter() - started)


def _taught(
    fusion: "Fusion", classifier: "Classifier", images: "Iterable[Arrays]", advance: Callable[[int], None]
) -> tuple[int, int]:
    """Count the images that the classifier takes for defective, and those of them that stay by what is unusual."""
    import torch

    from defectloc.model.predict import maps_of

    found = still_found = 0
    for *levels, inputs in images:
        before = maps_of(classifier, torch.from_numpy(inputs)).mean((1, 2)) > 0
        found += int(before.sum())
        still_found += int((fusion.look(classifier, levels, inputs).kept_log_odds[before] > 0).sum())
        advance(len(inputs))
    return found, still_found


def recall(run: runs.Run, device: str) -> "tuple[GoodMemory, list[str]]":
    """Load a run's memory, and name the trunk's levels that it takes."""
    from defectloc.model.memory import GoodMemory

    run.require_whole(runs.MEMORY)
    key = run.maps("memory").key
    return GoodMemory.load(run.folder / runs.MEMORY, key, device), json.loads(key)[0]


def recall_fusion(run: runs.Run, memory: "GoodMemory") -> "Fusion":
    """Load what a run added to its memory."""
    from defectloc.model.fusion import Fusion

    run.require_whole(runs.FUSION)
    return Fusion.load(run.folder / runs.FUSION, run.maps("fusion").key, memory)


def _good(fold: Fold) -> pd.DataFrame:
    return fold.rows(splits.TRAIN).query("label == 0")


def _held_out(fold: Fold) -> pd.DataFrame:
    return pd.concat([fold.rows(splits.VALIDATION), fold.rows(splits.TEST)])
