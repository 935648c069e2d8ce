"""Whether stored features are the fresh ones, and fits from them the same fits."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from defectloc.benchmarks.steps import CLASS_WEIGHTS
from defectloc.config import KeptEpoch, TrainSettings
from defectloc.data.datasets import FeatureDataset, ImageDataset
from defectloc.data.images import read_image
from defectloc.data.module import FoldData
from defectloc.data.resize import resize
from defectloc.features.store import FeatureStore
from defectloc.model import weights
from defectloc.model.classifier import Classifier
from defectloc.model.fit import DefectClassifier, fit
from defectloc.model.predict import class_maps_of_features
from defectloc.model.trunk import Trunk

CHUNK = 3


class InChunks(DefectClassifier):
    """The fit from images, whose trunk takes a few of a batch at a time."""

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give the trunk's output, computed in chunks."""
        features = super().features
        return torch.cat([features(part) for part in inputs.split(CHUNK)])


def compare(
    settings: TrainSettings, root: Path, train: pd.DataFrame, test: pd.DataFrame, epochs: int, folder: Path
) -> list[dict[str, Any]]:
    """Fit the same images streamed, streamed with another batch size of the trunk, and from stores of both types.

    The first one is what the others differ from. Returns one row per origin: `origin`, `features` (the largest
    difference, as a share of the largest feature), `log_odds` of the test images (the largest difference),
    `decisions` (how many differ), `near` (how many of these lie within 0.02 of the probability 0.5).
    """
    training = replace(settings.training, epochs=epochs, target_train_accuracy=1.1, keep=KeptEpoch.last)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for origin in ("streamed", f"streamed, trunk in batches of {CHUNK}", "float32 store", "float16 store"):
        classifier, _, _ = weights.build(settings.model, settings.seed)
        fitted, tested = (_dataset(origin, classifier, rows, root, settings, folder) for rows in (train, test))
        kind = InChunks if "trunk" in origin else DefectClassifier
        module = kind(classifier, training, CLASS_WEIGHTS, 0, from_images="store" not in origin)
        with tempfile.TemporaryDirectory() as unfinished:
            fit(module, FoldData(fitted, None, training.batch_size, 0, 0, "cpu"), Path(unfinished), "cpu", "float32")
        inputs = torch.stack([tested[0, index][0] for index in range(len(test))])
        with torch.inference_mode():
            features = module.features(inputs)
        maps = class_maps_of_features(classifier.eval(), features)
        found[origin] = features.float().numpy(), maps.astype(np.float64).mean((1, 2))
    first = found["streamed"]
    return [{"origin": origin, **differences(first, other)} for origin, other in found.items()]


def _dataset(
    origin: str, classifier: Classifier, rows: pd.DataFrame, root: Path, settings: TrainSettings, folder: Path
) -> FeatureDataset | ImageDataset:
    size, labels = settings.data.image_size, list(rows["label"])
    if "store" not in origin:
        return ImageDataset([root / path for path in rows["path"]], labels, size)
    store = FeatureStore(folder, {"dtype": origin.partition(" ")[0], "image_size": size})
    trunk, level = Trunk(classifier, "cpu", "float32"), str(classifier.level)
    store.ensure(rows, [level], trunk.by_name, lambda path: resize(read_image(root / path), size))
    return FeatureDataset(store.read(list(rows["digest"]), level), labels)


def differences(first: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> dict[str, float | int]:
    """Compare (features, log-odds) of two origins; see `compare`."""
    before, after = (1 / (1 + np.exp(-log_odds)) for log_odds in (first[1], other[1]))
    turned = (before > 0.5) != (after > 0.5)
    return {
        "features": float(np.abs(other[0] - first[0]).max() / np.abs(first[0]).max()),
        "log_odds": float(np.abs(other[1] - first[1]).max()),
        "decisions": int(turned.sum()),
        "near": int((turned & (np.abs(before - 0.5) < 0.02)).sum()),
    }
