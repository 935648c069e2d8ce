"""A fitted or pretrained classifier as a plain callable."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from defectloc.model.classifier import Classifier, class_activation_map


def trunk_of(
    classifier: Classifier, device: str, precision: str
) -> Callable[[list[torch.Tensor], Sequence[str]], dict[str, np.ndarray]]:
    """Give the trunk as a function of images `(3, S, S)` and levels, to arrays `(N, C, h, w)` float32 per level."""

    def trunk(images: list[torch.Tensor], levels: Sequence[str]) -> dict[str, np.ndarray]:
        batch = torch.stack(images).to(device, memory_format=torch.channels_last)
        enabled = precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=enabled):
            found = classifier.levels(batch, levels)
        return {level: values.float().contiguous().cpu().numpy() for level, values in found.items()}

    classifier.to(device)
    # On a GPU of another layout this is a copy of the weights; on a CPU it saves a quarter of the time.
    classifier.to(memory_format=torch.channels_last)
    classifier.eval()
    return trunk


def maps_of(classifier: Classifier, inputs: torch.Tensor) -> np.ndarray:
    """Give the class activation maps `(N, h, w)` float32 for images or stored features, in full precision."""
    device = next(classifier.parameters()).device
    inputs = inputs.to(device).float()
    with torch.inference_mode():
        features = classifier.features(inputs) if inputs.shape[1] == 3 else inputs
        return class_activation_map(classifier.channels(features)).cpu().numpy()
