"""Peak memory of filling the store and fitting from it, in a process of its own."""

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def peak_bytes(n_images: int, image_size: int) -> int:
    """Fit one epoch of `n_images` and give the most memory that the process held, mapped files included.

    The images are noise, only the first batch goes through the trunk, and only the head is trained: neither changes
    what is held in memory for how many images there are, and both would take an hour.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (n_images, image_size))


def _peak(n_images: int, image_size: int) -> int:
    import torch

    from defectloc.config import TrainingConfig
    from defectloc.data.module import FeatureDataset
    from defectloc.features.store import FeatureStore
    from defectloc.model.classifier import Classifier
    from defectloc.model.predict import trunk_of
    from defectloc.speed.steps import timed_fit

    torch.set_num_threads(2)
    classifier = Classifier("vgg16", "head", "oxford")
    real = trunk_of(classifier, "cpu", "float32")
    kept: dict[str, np.ndarray] = {}

    def trunk(inputs: list[Any], levels: Sequence[str]) -> dict[str, np.ndarray]:
        if not kept:
            kept.update(real(inputs, levels))
        return {level: values[: len(inputs)] for level, values in kept.items()}

    digests = [f"{index:064x}" for index in range(n_images)]
    images = pd.DataFrame({"digest": digests, "path": digests})
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), {"dtype": "float16"})
        store.ensure(images, [classifier.level], trunk, lambda _: torch.zeros(3, image_size, image_size))
        labels = [index % 2 for index in range(n_images)]
        dataset = FeatureDataset(store.read(digests, classifier.level), labels)
        timed_fit(classifier, dataset, None, TrainingConfig(epochs=1, target_train_accuracy=1.1), ("cpu", "float32"))
    # Kilobytes, but on macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
