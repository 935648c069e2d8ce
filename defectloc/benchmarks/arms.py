"""The arms of the comparison, each measured for a few steps at one image size."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from defectloc.benchmarks import machine
from defectloc.benchmarks.case_study import Loop
from defectloc.benchmarks.steps import forward_and_backward, timed_fit, trunk_seconds
from defectloc.config import TrainSettings
from defectloc.data.datasets import FeatureDataset, ImageDataset
from defectloc.data.images import read_image
from defectloc.data.resize import resize
from defectloc.features.store import FeatureStore
from defectloc.model import weights
from defectloc.model.classifier import Classifier
from defectloc.model.trunk import Trunk


@dataclass(frozen=True)
class Setting:
    """What the arms share."""

    settings: TrainSettings
    root: Path
    device: str
    precision: str
    folder: Path

    def classifier(self) -> Classifier:
        """Make the network anew."""
        return weights.build(self.settings.model, self.settings.seed)[0]


@dataclass(frozen=True)
class Costs:
    """Seconds per training step (of `batch_size` images), and per image of a forward pass; from `steps` steps.

    Operations are floating-point operations per image: of the trunk's forward pass, of tail and head forward and back.
    """

    steps: int
    batch_size: int
    case_step: float
    case_predict: float
    stream_step: float
    stream_predict: float
    tail_step: float
    tail_bare: float
    trunk_bare: float
    extraction: float
    trunk_operations: float
    tail_operations: float


def measure(setting: Setting, images: pd.DataFrame, size: int, steps: int) -> Costs:
    """Measure all arms on the same images; `images` has `path, digest, label`."""
    n = min(len(images), (steps + 1) * setting.settings.training.batch_size)
    rows = images.head(n)
    case_step, case_predict = _case_study(setting, rows, size, steps)
    stream_step, stream_predict = _streaming(setting, rows, size)
    return Costs(
        steps=steps,
        batch_size=setting.settings.training.batch_size,
        case_step=case_step,
        case_predict=case_predict,
        stream_step=stream_step,
        stream_predict=stream_predict,
        **_stored(setting, rows, size, steps),
    )


def extract(setting: Setting, classifier: Classifier, rows: pd.DataFrame, size: int) -> FeatureStore:
    """Fill a store of the benchmark's own with the features of some images."""
    features = setting.settings.features
    store = FeatureStore(setting.folder, {"dtype": str(features.dtype), "image_size": size})
    trunk = Trunk(classifier, setting.device, setting.precision)

    def view(path: str) -> torch.Tensor:
        return resize(read_image(setting.root / path), size)

    store.ensure(rows, [str(classifier.level)], trunk.by_name, view, features.batch_size, features.workers)
    return store


def _case_study(setting: Setting, rows: pd.DataFrame, size: int, steps: int) -> tuple[float, float]:
    loop = Loop([setting.root / path for path in rows["path"]], list(rows["label"]), size, setting.device)

    def step() -> None:
        loop.step()
        machine.wait(setting.device)

    return machine.median_seconds(step, steps), machine.median_seconds(loop.predict, max(1, steps // 2)) / loop.batch


def _streaming(setting: Setting, rows: pd.DataFrame, size: int) -> tuple[float, float]:
    training = replace(setting.settings.training, epochs=1, target_train_accuracy=1.1)
    dataset = ImageDataset([setting.root / path for path in rows["path"]], list(rows["label"]), size)
    workers = setting.settings.features.workers
    # Whole batches, since their median is divided by the size of one.
    half = rows.head(max(2, len(rows) // 2 // training.batch_size) * training.batch_size)
    held_out = ImageDataset([setting.root / path for path in half["path"]], list(half["label"]), size)
    place = (setting.device, setting.precision)
    classifier = setting.classifier()
    # The layout of the inputs, at which it is fastest.
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    times = timed_fit(classifier, dataset, held_out, training, place, workers)
    return times.step, float(np.median(times.validation)) / training.batch_size


def _stored(setting: Setting, rows: pd.DataFrame, size: int, steps: int) -> dict[str, float]:
    classifier = setting.classifier()
    batch = min(setting.settings.features.batch_size, len(rows))
    pixels = torch.stack([resize(read_image(setting.root / path), size) for path in rows["path"].head(batch)])
    pixels = pixels.to(setting.device, memory_format=torch.channels_last)
    classifier.to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    bare = trunk_seconds(classifier, pixels, steps) / batch
    started = time.perf_counter()
    store = extract(setting, classifier, rows, size)
    taken = time.perf_counter() - started
    dataset = FeatureDataset(store.read(list(rows["digest"]), str(classifier.level)), list(rows["label"]))
    training = replace(setting.settings.training, epochs=2, target_train_accuracy=1.1)
    n = min(training.batch_size, len(rows))
    inputs = torch.stack([dataset[0, index][0] for index in range(n)]).float().to(setting.device)
    inputs = inputs.to(memory_format=torch.channels_last)
    classifier.train()
    bare_tail = machine.median_seconds(lambda: forward_and_backward(classifier, inputs), 2 * steps)
    tail_operations = machine.operations(lambda: forward_and_backward(classifier, inputs)) / n
    with torch.inference_mode():
        trunk_operations = machine.operations(lambda: classifier.features(pixels[:1]))
    tail_step = timed_fit(classifier, dataset, None, training, (setting.device, setting.precision)).step
    return {
        "trunk_bare": bare,
        "extraction": taken / len(rows),
        "tail_bare": bare_tail,
        "tail_step": tail_step,
        "trunk_operations": trunk_operations,
        "tail_operations": tail_operations,
    }
