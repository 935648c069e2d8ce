"""Seconds per image and per step of the parts of our own fits."""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from defectloc.benchmarks.machine import median_seconds, wait
from defectloc.config import TrainingConfig
from defectloc.data.datasets import FeatureDataset, ImageDataset
from defectloc.data.module import FoldData
from defectloc.model.classifier import Classifier
from defectloc.model.fit import DefectClassifier, fit

# The case study's loss weights [good, defective].
CLASS_WEIGHTS = [1.0, 3.0]


@dataclass
class Times:
    """Seconds of a fit: of each training step after the first of an epoch, and of each validation batch."""

    steps: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def step(self) -> float:
        """Give the median step."""
        return float(np.median(self.steps))


class TimedClassifier(DefectClassifier):
    """The fit as it is, with a clock at its steps."""

    def __init__(self, classifier: Classifier, training: TrainingConfig, from_images: bool, device_name: str) -> None:
        super().__init__(classifier, training, CLASS_WEIGHTS, seed=0, from_images=from_images)
        self.times, self._device_name = Times(), device_name
        self._last: float | None = None

    def on_train_epoch_start(self) -> None:
        """Start anew: the first step of an epoch waits for workers that start."""
        super().on_train_epoch_start()
        self._last = None

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time since the last step, loading included."""
        self._note(self.times.steps)

    def on_validation_epoch_start(self) -> None:
        """Lightning's hook."""
        self._last = None

    def on_validation_batch_end(self, *_: Any) -> None:
        """Lightning's hook."""
        self._note(self.times.validation)

    def _note(self, intervals: list[float]) -> None:
        wait(self._device_name)
        now = time.perf_counter()
        if self._last is not None:
            intervals.append(now - self._last)
        self._last = now


def timed_fit(
    classifier: Classifier,
    train: FeatureDataset | ImageDataset,
    validation: FeatureDataset | ImageDataset | None,
    training: TrainingConfig,
    place: tuple[str, str],
    workers: int = 0,
) -> Times:
    """Fit by the real loop and give its times; `place` is (device, precision)."""
    module = TimedClassifier(classifier, training, isinstance(train, ImageDataset), place[0])
    data = FoldData(train, validation, training.batch_size, 0, workers, place[0])
    with tempfile.TemporaryDirectory() as folder:
        fit(module, data, Path(folder), *place)
    return module.times


def trunk_seconds(classifier: Classifier, images: torch.Tensor, repeats: int) -> float:
    """Time the bare forward pass of the trunk over a batch that is in memory."""
    device = images.device.type

    def forward() -> None:
        with torch.inference_mode():
            classifier.features(images)
        wait(device)

    return median_seconds(forward, repeats)


def forward_and_backward(classifier: Classifier, features: torch.Tensor) -> None:
    """Run tail and head over a batch of features `(N, C, h, w)` that is in memory, forward and backward."""
    labels = torch.arange(len(features), device=features.device) % 2
    classifier.zero_grad()
    logits = classifier.channels(features).mean((2, 3))
    torch.nn.functional.cross_entropy(logits, labels).backward()
    wait(features.device.type)
