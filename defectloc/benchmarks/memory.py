"""Peak memory of filling the store and fitting from it, by the number of images."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from defectloc.benchmarks.processes import in_new_process
from defectloc.benchmarks.steps import timed_fit
from defectloc.config import TrainingConfig
from defectloc.data.datasets import FeatureDataset
from defectloc.features.store import FeatureStore
from defectloc.model.classifier import Classifier
from defectloc.model.trunk import Trunk

# A data set, and one that would not fit into the memory of a small machine if it were held there.
NUMBERS = (400, 4000)


def peak_bytes(n_images: int, image_size: int) -> int:
    """Fit one epoch of `n_images` in a process of its own and give its peak memory in bytes.

    The images are black, the trunk computes the first batch only, whose features stand for all, and only the head is
    trained: nothing of this changes what is held in memory for how many images there are, and all of it would take an
    hour.
    """
    return in_new_process(_fit, n_images, image_size)[1]


def _fit(n_images: int, image_size: int) -> None:
    torch.set_num_threads(2)
    classifier = Classifier("vgg16", "head", "oxford")
    trunk = Trunk(classifier, "cpu", "float32")
    first: dict[str, np.ndarray] = {}

    def repeated(images: Sequence[torch.Tensor], names: Sequence[str]) -> dict[str, np.ndarray]:
        if not first:
            first.update(trunk.by_name(images, names))
        return {name: first[name][: len(images)] for name in names}

    digests = [f"{index:064x}" for index in range(n_images)]
    images, level = pd.DataFrame({"digest": digests, "path": digests}), str(classifier.level)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), {"dtype": "float16"})
        store.ensure(images, [level], repeated, lambda _: torch.zeros(3, image_size, image_size))
        dataset = FeatureDataset(store.read(digests, level), [index % 2 for index in range(n_images)])
        timed_fit(classifier, dataset, None, TrainingConfig(epochs=1, target_train_accuracy=1.1), ("cpu", "float32"))
