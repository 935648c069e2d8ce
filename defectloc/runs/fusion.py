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
from defectloc.runs.fold import Features, Fold
from defectloc.runs.products import Product
from defectloc.runs.shortcut_table import SHORTCUT

FUSION = "fusion.npz"
# Raised when the code changes what a fusion gives.
VERSION = 4


def product_of(bank: Product) -> Product:
    """Name the fusion with a memory bank."""
    return Product(bank.run, "fusion", {"version": VERSION, "memory": bank.name})


def fusion_maps(fold: Fold, bank_product: Product, cam_product: Product) -> Product:
    """Fit the fusion on the labelled training images and write its maps of the held-out ones, unless they are there.

    `shortcut.csv` beside the maps says by image what is retained of the class log-odds under counterfactual replacement
    by normal features.
    """
    product = product_of(bank_product)
    if product.is_whole:
        return product
    started = time.perf_counter()
    distances = products.read_maps(bank_product)
    bank, levels = load_bank(bank_product.folder, fold.device)
    classifier = weights.restore(bank_product.run / directory.CHECKPOINT).to(fold.device)
    good = fold.rows(splits.TRAIN).query("label == 0")
    defective = fold.rows(splits.TRAIN).query("label == 1")
    good_validation = directory.stacked(distances, fold.rows(splits.VALIDATION).query("label == 0"))
    statistics = GoodStatistics.from_maps(good_validation)
    scale = Scale(statistics.mean, statistics.sd)
    defective_distances = _distances(fold, defective, bank, levels)
    fusion = Fusion.fit(
        bank,
        scale,
        scale.anomaly(good_validation),
        (_arrays(batch, levels) for batch in fold.features(good, levels)),
        zip((_arrays(batch, levels) for batch in fold.features(defective, levels)), defective_distances, strict=True),
        (batch[classifier.level] for batch in fold.features(good, [classifier.level])),
        len(good),
        fold.settings.seed,
    )
    if fusion.patch_classifier is None:
        print("note: too few anomalous patches on the defective training images to learn from", file=sys.stderr)
    held_out = fold.held_out
    fused, log_odds, cells = [], [], []
    with images_bar("fusion", len(defective) + len(held_out)) as advance:
        counts = _count_retained(fold, defective, fusion, classifier, defective_distances)
        advance(len(defective))
        of_held_out = directory.stacked(distances, held_out)
        wanted = list(dict.fromkeys([*levels, classifier.level]))
        at = 0
        for batch in fold.features(held_out, wanted):
            n = len(batch[classifier.level])
            some = of_held_out[at : at + n]
            at += n
            fused.append(fusion.fuse(_arrays(batch, levels), some))
            retained = fusion.normal_features.retained(classifier, batch[classifier.level], fusion.anomaly(some))
            log_odds.append(retained.log_odds)
            cells.append(retained.cells)
            advance(n)
    shortcut = _shortcut_table(
        held_out, products.read_maps(cam_product), np.concatenate(log_odds), np.concatenate(cells)
    )
    with product.making() as note:
        fusion.save(product.folder / FUSION)
        tables.write_csv(product.folder / SHORTCUT, shortcut)
        grid = (distances.grid.stride, distances.grid.offset)
        products.write_maps(product.folder / products.MAPS, list(held_out["path"]), np.concatenate(fused), grid)
        note["reliability_counts"] = list(counts)
        note["seconds"] = round(time.perf_counter() - started, 3)
    return product


def load_fusion(folder: Path, bank: MemoryBank) -> Fusion:
    """Load the fusion of a product's folder, to go with its memory bank."""
    return Fusion.load(folder / FUSION, bank)


def _arrays(batch: Features, levels: list[Level]) -> list[np.ndarray]:
    return [batch[level] for level in levels]


def _distances(fold: Fold, images: pd.DataFrame, bank: MemoryBank, levels: list[Level]) -> list[np.ndarray]:
    """Search the distances of images once, in batches as `fold.features` gives them."""
    return [bank.distances(_arrays(batch, levels)) for batch in fold.features(images, levels)]


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
    images: pd.DataFrame, class_maps: products.Maps, retained_log_odds: np.ndarray, retained: np.ndarray
) -> pd.DataFrame:
    positive = directory.stacked(class_maps, images).clip(0)
    return images[["path"]].assign(
        retained_log_odds=retained_log_odds,
        retained_area=retained.mean((1, 2)),
        retained_evidence=(positive * retained).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-9),
    )
