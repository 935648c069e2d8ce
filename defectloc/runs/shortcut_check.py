"""The shortcut check: what a run's class network retains of its log-odds on anomalous cells alone."""

import numpy as np
import pandas as pd

from defectloc.data import splits
from defectloc.localization.normalization import GoodStatistics
from defectloc.model import weights
from defectloc.model.counterfactual import NormalFeatures
from defectloc.progress import images_bar
from defectloc.runs import directory
from defectloc.runs.fold import Fold
from defectloc.runs.products import Maps


def shortcut_table(fold: Fold, class_maps: Maps, distances: Maps, scale: GoodStatistics) -> pd.DataFrame:
    """Measure what the held-out images' class log-odds retain under counterfactual replacement by normal features.

    Gives `path, retained_log_odds, retained_area, retained_evidence`. `scale` is that of the distances on good
    validation images.
    """
    classifier = weights.restore(class_maps.product.run / directory.CHECKPOINT).to(fold.device)
    good, held_out = fold.rows(splits.TRAIN).query("label == 0"), fold.held_out
    inputs = (batch[classifier.level] for batch in fold.features(good, [classifier.level]))
    normal = NormalFeatures.fit(inputs, len(good), fold.settings.seed, fold.device)
    anomaly = (directory.stacked(distances, held_out) - scale.mean) / scale.sd
    positive = directory.stacked(class_maps, held_out).clip(0)
    log_odds: list[np.ndarray] = []
    cells: list[np.ndarray] = []
    with images_bar("shortcut check", len(held_out)) as advance:
        for batch in fold.features(held_out, [classifier.level]):
            at, features = sum(len(each) for each in log_odds), batch[classifier.level]
            retained = normal.retained(classifier, features, anomaly[at : at + len(features)])
            log_odds.append(retained.log_odds)
            cells.append(retained.cells)
            advance(len(features))
    retained_cells = np.concatenate(cells)
    return held_out[["path"]].assign(
        retained_log_odds=np.concatenate(log_odds),
        retained_area=retained_cells.mean((1, 2)),
        retained_evidence=(positive * retained_cells).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-9),
    )
