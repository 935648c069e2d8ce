"""The frozen part of a classifier on a device, as a function of images."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import nn

from defectloc.model import efficientnet_lite
from defectloc.model.classifier import Classifier
from defectloc.model.levels import Level
from defectloc.model.winograd import Model, with_winograd


class Trunk:
    """Computes levels of images; wherever frozen features come from, they come from here in the same precision."""

    def __init__(self, classifier: Classifier, device: str, precision: str) -> None:
        """Move the whole classifier to `device`, in evaluation mode; precision: 'float32' or 'bfloat16'."""
        self._device, self._precision = device, precision
        classifier.to(device)
        # On a GPU of another layout this is a copy of the weights; on a CPU it saves a quarter of the time.
        classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._classifier = classifier.eval()

    @cached_property
    def stages(self) -> nn.Module:
        """The trunk as it computes; made when it is first needed, since the transformed kernels are large."""
        trunk = self._classifier.trunk
        if self._classifier.backbone in efficientnet_lite.BLOCKS:
            return efficientnet_lite.for_inference(trunk)
        return for_inference(trunk, self._device, self._precision)

    def __call__(self, images: Sequence[torch.Tensor], levels: Sequence[Level]) -> dict[Level, np.ndarray]:
        """Give the levels `(N, C, h, w)`, float32, of images `(3, H, W)` in 0..255."""
        # One by one on a processor: the layers' outputs of a batch are so large that each is fresh memory from the
        # system, out of the cache. It saves a fifth of the time; the numbers are the same. In bfloat16 each pass would
        # round the weights again.
        size = 1 if is_plain(self._device, self._precision) else len(images)
        parts = [self._levels(images[start : start + size], levels) for start in range(0, len(images), size)]
        return {level: np.concatenate([part[level] for part in parts]) for level in parts[0]}

    def _levels(self, images: Sequence[torch.Tensor], levels: Sequence[Level]) -> dict[Level, np.ndarray]:
        batch = torch.stack(list(images)).to(self._device, memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(self._device, self._precision):
            found = self._classifier.levels(batch, levels, self.stages)
        return {level: values.float().contiguous().cpu().numpy() for level, values in found.items()}

    def by_name(self, images: Sequence[torch.Tensor], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Do the same for levels by their names, as the feature store keeps them."""
        return {str(level): values for level, values in self(images, [Level.parse(name) for name in names]).items()}


def for_inference(model: Model, device: str, precision: str) -> Model:
    """Give a model with Winograd's convolutions where they pay: a copy that shares its weights, or the model itself."""
    # On a GPU cuDNN chooses, and in bfloat16 the transforms would amplify the rounding.
    return with_winograd(model) if is_plain(device, precision) else model


def is_plain(device: str, precision: str) -> bool:
    """Tell whether a trunk computes in single precision on a processor."""
    return (device, precision) == ("cpu", "float32")


def autocast(device: str, precision: str) -> torch.autocast:
    """Give the context in which a trunk computes."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")
