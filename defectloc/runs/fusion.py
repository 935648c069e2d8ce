"""The fusion of a run: memory bank and labels together, its maps, and the shortcut check of the class network."""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from defectloc.data import splits
from defectloc.localization.normalization import GoodStatistics
from defectloc.model import weights
from defectloc.model.classifier import Classifier
from defectloc.model.fusion import Fusion, Scale
from defectloc.model.levels import Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.predict import class_maps_of_features
from defectloc.progress import images_bar
from defectloc.runs import directory, products, tables
from defectloc.runs.bank import load_bank
from defectloc.runs.directory import Run
from defectloc.runs.fold import Features, Fold
from defectloc.runs.products import Maps, Product
from defectloc.runs.shortcut_table import SHORTCUT

FUSION = "fusion.npz"
# Raised when the code changes what a fusion gives.
VERSION = 4


def product_of(bank: Product) -> Product:
    """Name the fusion with a memory bank."""
    return Product(bank.run, "fusion", {"version": VERSION, "memory": bank.name})


def fusion_maps(fold: Fold, run: Run, bank_product: Product, cam_product: Product) -> Product:
    """Fit the fusion on the labelled training images and write its maps of the held-out ones, unless they are there.

    `shortcut.csv` beside the maps says by image what is retained of the class log-odds under counterfactual replacement
    by normal features.
    """
    product = product_of(bank_product)
    if product.is_whole:
        return product
    started = time.perf_counter()
    distances, class_maps = run.maps("memory", bank_product), run.maps("cam", cam_product)
    bank, levels = load_bank(bank_product.folder, fold.device)
    classifier = weights.restore(run.folder / directory.CHECKPOINT).to(fold.device)
    defective = fold.rows(splits.TRAIN).query("label == 1")
    # Searched once, for the fit and for the counts.
    searched = [bank.distances(_arrays(batch, levels)) for batch in fold.features(defective, levels)]
    fusion = _fit(fold, bank, levels, classifier, distances, defective, searched)
    counts = _count_retained(fold, defective, fusion, classifier, searched)
    fused, shortcut = _apply(fold, fusion, levels, classifier, distances, class_maps)
    with product.making() as note:
        fusion.save(product.folder / FUSION)
        tables.write_csv(product.folder / SHORTCUT, shortcut)
        grid = (distances.grid.stride, distances.grid.offset)
        products.write_maps(product.folder / products.MAPS, list(shortcut["path"]), fused, grid)
        note["reliability_counts"] = list(counts)
        note["seconds"] = round(time.perf_counter() - started, 3)
    return product


def _fit(
    fold: Fold,
    bank: MemoryBank,
    levels: list[Level],
    classifier: Classifier,
    distances: Maps,
    defective: pd.DataFrame,
    searched: list[np.ndarray],
) -> Fusion:
    """Fit to the training images; `searched` are the distances of the defective ones, batch by batch."""
    good = fold.rows(splits.TRAIN).query("label == 0")
    good_validation = directory.stacked(distances, fold.rows(splits.VALIDATION).query("label == 0"))
    statistics = GoodStatistics.from_maps(good_validation)
    scale = Scale(statistics.mean, statistics.sd)
    fusion = Fusion.fit(
        bank,
        scale,
        scale.anomaly(good_validation),
        (_arrays(batch, levels) for batch in fold.features(good, levels)),
        zip((_arrays(batch, levels) for batch in fold.features(defective, levels)), searched, strict=True),
        (batch[classifier.level] for batch in fold.features(good, [classifier.level])),
        len(good),
        fold.settings.seed,
    )
    if fusion.patch_classifier is None:
        print("note: too few anomalous patches on the defective training images to learn from", file=sys.stderr)
    return fusion


def _apply(
    fold: Fold, fusion: Fusion, levels: list[Level], classifier: Classifier, distances: Maps, class_maps: Maps
) -> tuple[np.ndarray, pd.DataFrame]:
    """Give the fused maps `(N, h, w)` of the held-out images, and their table of what is retained."""
    images = fold.held_out
    of_images, at = directory.stacked(distances, images), 0
    fused, log_odds, cells = [], [], []
    with images_bar("fusion", len(images)) as advance:
        for batch in fold.features(images, list(dict.fromkeys([*levels, classifier.level]))):
            n = len(batch[classifier.level])
            some = of_images[at : at + n]
            at += n
            fused.append(fusion.fuse(_arrays(batch, levels), some))
            retained = fusion.normal_features.retained(classifier, batch[classifier.level], fusion.anomaly(some))
            log_odds.append(retained.log_odds)
            cells.append(retained.cells)
            advance(n)
    return np.concatenate(fused), _shortcut_table(images, class_maps, np.concatenate(log_odds), np.concatenate(cells))


def load_fusion(folder: Path, bank: MemoryBank) -> Fusion:
    """Load the fusion of a product's folder, to go with its memory bank."""
    return Fusion.load(folder / FUSION, bank)


def _arrays(batch: Features, levels: list[Level]) -> list[np.ndarray]:
    return [batch[level] for level in levels]


def _count_retained(
    fold: Fold, defective: pd.DataFrame, fusion: Fusion, classifier: Classifier, distances: list[np.ndarray]
) -> tuple[int, int]:
    """Count the training images that the class network predicts defective, and those that stay so when replaced."""
    predicted = retained = 0
    for batch, some in zip(fold.features(defective, [classifier.level]), distances, strict=True):
        features = batch[classifier.level]
        before = class_maps_of_features(classifier, features).mean((1, 2)) > 0
        after = fusion.normal_features.retained(classifier, features, fusion.anomaly(some)).log_odds
        predicted += int(before.sum())
        retained += int((after[before] > 0).sum())
    return predicted, retained


def _shortcut_table(
    images: pd.DataFrame, class_maps: Maps, retained_log_odds: np.ndarray, retained: np.ndarray
) -> pd.DataFrame:
    positive = directory.stacked(class_maps, images).clip(0)
    return images[["path"]].assign(
        retained_log_odds=retained_log_odds,
        retained_area=retained.mean((1, 2)),
        retained_evidence=(positive * retained).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-9),
    )
