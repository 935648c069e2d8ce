"""The shortcut check: what a run's class network retains of its log-odds on anomalous cells alone."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from defectloc.data import splits
from defectloc.localization.maps import Stack, mapped
from defectloc.localization.normalization import Scale
from defectloc.model import weights
from defectloc.model.classifier import Classifier
from defectloc.model.counterfactual import NormalFeatures, Retained
from defectloc.model.predict import class_maps_of_features
from defectloc.progress import images_bar
from defectloc.runs import directory, products
from defectloc.runs.fold import Fold
from defectloc.runs.products import Maps


class ShortcutCheck:
    """A fold's class network, and normal features to replace with what is not anomalous."""

    def __init__(self, fold: Fold, class_maps: Maps, scale: Scale) -> None:
        """`scale` is that of the memory bank's distances on good validation images."""
        self._fold, self._class_maps, self._scale = fold, class_maps, scale
        self._classifier: Classifier = weights.restore(class_maps.product.run / directory.CHECKPOINT).to(fold.device)
        good, level = fold.rows(splits.TRAIN).query("label == 0"), self._classifier.level
        inputs = (batch[level] for batch in fold.features(good, [level]))
        self._normal = NormalFeatures.fit(inputs, len(good), fold.settings.seed, fold.device)

    def table(self, distances: Maps) -> pd.DataFrame:
        """Give `path, retained_log_odds, retained_area, retained_evidence` of the held-out images."""
        held_out = self._fold.held_out
        positive = np.stack([self._class_maps.cells[path] for path in held_out["path"]]).clip(0)
        found = [each for _, each in self._retained(held_out, products.stacked(distances, held_out))]
        cells = np.concatenate([each.cells for each in found])
        return held_out[["path"]].assign(
            retained_log_odds=np.concatenate([each.log_odds for each in found]),
            retained_area=cells.mean((1, 2)),
            retained_evidence=(positive * cells).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-9),
        )

    def training_counts(self, defective: pd.DataFrame, distances: Stack) -> tuple[int, int]:
        """Count the training images `(N,)` that the network predicts defective, and those that are retained as such.

        `distances` `(N, h, w)` are to the memory bank.
        """
        predicted = retained = 0
        for features, found in self._retained(defective, distances):
            before = class_maps_of_features(self._classifier, features).mean((1, 2)) > 0
            predicted += int(before.sum())
            retained += int((found.log_odds[before] > 0).sum())
        return predicted, retained

    def _retained(self, images: pd.DataFrame, distances: Stack) -> Iterator[tuple[NDArray, Retained]]:
        level, at = self._classifier.level, 0
        anomaly = mapped(lambda values: (values - self._scale.zero) / self._scale.unit, distances)
        with images_bar("shortcut check", len(images)) as advance:
            for batch in self._fold.features(images, [level]):
                features = batch[level]
                yield features, self._normal.retained(self._classifier, features, anomaly[at : at + len(features)])
                at += len(features)
                advance(len(features))
