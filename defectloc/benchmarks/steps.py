"""Seconds per image and per step of the parts of our own fits."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from defectloc.config import TrainingConfig
from defectloc.data.module import FeatureDataset, FoldData, ImageDataset
from defectloc.model.classifier import Classifier
from defectloc.model.fit import DefectClassifier, fit
from defectloc.speed.machine import median_seconds, wait


@dataclass
class Passes:
    """How many images went through a trunk."""

    images: int = 0


@contextlib.contextmanager
def counted_passes() -> Iterator[Passes]:
    """Count the images that go through any trunk meanwhile."""
    passes, original = Passes(), Classifier.levels

    def levels(self: Classifier, images: torch.Tensor, names: Any) -> dict[str, torch.Tensor]:
        passes.images += len(images)
        return original(self, images, names)

    with mock.patch.object(Classifier, "levels", levels):
        yield passes


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

    def __init__(self, *arguments: Any, device_name: str) -> None:
        super().__init__(*arguments)
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
    module = TimedClassifier(classifier, training, [1.0, 3.0], 0, device_name=place[0])
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


def tail_seconds(classifier: Classifier, features: torch.Tensor, repeats: int) -> float:
    """Time the bare forward and backward pass of tail and head over a batch that is in memory."""
    labels = torch.arange(len(features), device=features.device) % 2

    def both() -> None:
        classifier.zero_grad()
        logits = classifier.channels(features).mean((2, 3))
        torch.nn.functional.cross_entropy(logits, labels).backward()
        wait(features.device.type)

    return median_seconds(both, repeats)
