"""Levels of a trunk that follow from another one without arithmetic."""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from defectloc.model.classifier import Classifier


def derivable(classifier: Classifier) -> dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Name the levels that a max-pool or a ReLU makes of the level before, with the function on `(N, C, H, W)` arrays.

    Both only choose among their inputs, so that rounding before or after gives the same numbers. A convolution would
    amplify the rounding of what is stored: its level is computed from the image, or stored itself.
    """
    found = {}
    names = list(dict(classifier.trunk.named_children()))
    for before, name in itertools.pairwise(names):
        stage = classifier.trunk.get_submodule(name)
        if all(isinstance(module, nn.MaxPool2d | nn.ReLU) for module in stage.modules()):
            found[name] = (before, _on_arrays(stage))
    return found


def _on_arrays(stage: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def function(values: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return stage(torch.from_numpy(np.ascontiguousarray(values))).numpy()

    return function
