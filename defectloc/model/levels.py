"""Levels of a trunk: which output is meant, and which ones follow from another without arithmetic."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from defectloc.errors import DefectlocError


@dataclass(frozen=True)
class Level:
    """The output of a trunk's stage, as means of squares of `pool` x `pool` cells."""

    stage: str
    pool: int = 1

    @classmethod
    def parse(cls, text: str) -> "Level":
        """Read `conv4_3` or `conv3_3.pool2`; raises DefectlocError where no number of cells follows `.pool`."""
        stage, pooled, cells = text.partition(".pool")
        if pooled and not (cells.isdecimal() and int(cells) > 0):
            raise DefectlocError(f"level {text} must end in a number of cells, such as .pool2.")
        return cls(stage, int(cells or 1))

    def __str__(self) -> str:
        """Write what `parse` reads."""
        return self.stage if self.pool == 1 else f"{self.stage}.pool{self.pool}"


# What goes into the trunk.
IMAGE = Level("image")


def derivable(classifier: nn.Module) -> dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Name the levels that a max-pool or a ReLU makes of the level before, with the function on `(N, C, H, W)` arrays.

    Both only choose among their inputs, so that rounding before or after gives the same numbers. A convolution would
    amplify the rounding of what is stored: its level is computed from the image, or stored itself.
    """
    found = {}
    trunk = classifier.get_submodule("trunk")
    for before, name in itertools.pairwise(name for name, _ in trunk.named_children()):
        stage = trunk.get_submodule(name)
        if all(isinstance(module, nn.MaxPool2d | nn.ReLU) for module in stage.modules()):
            found[name] = (before, _on_arrays(stage))
    return found


def _on_arrays(stage: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def function(values: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return stage(torch.from_numpy(np.ascontiguousarray(values))).numpy()

    return function
