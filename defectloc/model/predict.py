"""Class activation maps of a fitted or pretrained classifier."""

import numpy as np
import torch

from defectloc.model.classifier import Classifier, class_activation_map
from defectloc.model.trunk import autocast


def class_maps_of_images(classifier: Classifier, images: torch.Tensor, precision: str = "float32") -> np.ndarray:
    """Give the class activation maps `(N, h, w)`, float32, of images `(N, 3, H, W)` in 0..255.

    `precision` is that of the trunk, 'float32' or 'bfloat16'; tail and head compute in float32.
    """
    device = next(classifier.parameters()).device
    with torch.inference_mode(), autocast(device.type, precision):
        features = classifier.features(images.to(device).float())
    return class_maps_of_features(classifier, features)


def class_maps_of_features(classifier: Classifier, features: torch.Tensor | np.ndarray) -> np.ndarray:
    """Give the class activation maps `(N, h, w)`, float32, of the trunk's output `(N, C, h', w')`."""
    device = next(classifier.parameters()).device
    with torch.inference_mode():
        values = torch.as_tensor(features).to(device).float()
        return class_activation_map(classifier.channels(values)).cpu().numpy()
