"""A layer's output: read, with its gradient, or replaced."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from defectloc.attribution.network import ClassScore
from defectloc.errors import DefectlocError


@contextmanager
def _hooked(layer: nn.Module, hook: Any) -> Iterator[None]:
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def activations(score: ClassScore, layer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Give a layer's output `(N, C, h, w)` for images `(N, 3, H, W)`, without gradients."""
    with torch.no_grad():
        return _read(score, layer, images)[0]


def activations_and_gradients(
    score: ClassScore, layer: nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a layer's output `(N, C, h, w)` and the gradient of the score with respect to it."""
    with torch.enable_grad():
        # The weights want no gradient, so the image has to, for the layer to have one.
        values, scores = _read(score, layer, images.detach().requires_grad_())
        (gradients,) = torch.autograd.grad(scores.sum(), values)
    return values.detach(), gradients


def _read(score: ClassScore, layer: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    outputs: list[torch.Tensor] = []
    with _hooked(layer, lambda _module, _inputs, output: outputs.append(output)):
        scores = score(images)
    if len(outputs) > 1:
        raise DefectlocError(
            "that layer is used several times in one pass, so it has no map of its own; choose another."
        )
    return outputs[0], scores


def score_with(score: ClassScore, layer: nn.Module, image: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Give the score `(B,)` of an image `(1, 3, H, W)` where the layer gives `values` `(B, C, h, w)` instead."""

    def replace(_module: nn.Module, _inputs: object, _output: object) -> torch.Tensor:
        return values

    with _hooked(layer, replace):
        try:
            # One image is enough: what comes before the layer is thrown away, what comes after it gets B maps.
            logits = score.model.logits(image)
        except RuntimeError:
            # DenseNet hands earlier maps past the layer, and joins them with the new ones, image by image.
            logits = score.model.logits(image.expand(len(values), -1, -1, -1))
    score.evaluations += len(values)
    return score.of_logits(logits)
