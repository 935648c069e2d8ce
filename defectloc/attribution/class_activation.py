"""Class activation maps: sums of a layer's channels, weighted by what each means for the class."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from defectloc.attribution.activations import activations, activations_and_gradients, score_with
from defectloc.attribution.network import ClassScore
from defectloc.config import AttributionConfig
from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier

Weighting = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _gradcam(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Weights: mean gradients (Selvaraju et al. 2017)."""
    return (g.mean((2, 3), keepdim=True) * a).sum(1)


def _gradcam_plus_plus(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Weights: positive gradients, each by its share g^2 / (2 g^2 + g^3 sum(a)) (Chattopadhay et al. 2018)."""
    # Reduced by g^2, which may be too small for float32.
    share = torch.where(g > 0, 1 / (2 + g * a.sum((2, 3), keepdim=True)).clamp_min(1e-6), 0)
    return ((F.relu(g) * share).sum((2, 3), keepdim=True) * a).sum(1)


def _xgradcam(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Weights: mean gradients weighted by the activations (Fu et al. 2020)."""
    total = a.sum((2, 3), keepdim=True)
    weights = torch.where(total != 0, (g * a).sum((2, 3), keepdim=True) / total, 0)
    return (weights * a).sum(1)


def _hirescam(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Gradient times activation (Draelos and Carin 2020)."""
    return (g * a).sum(1)


def _layercam(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Positive gradient times activation (Jiang et al. 2021)."""
    return (F.relu(g) * a).sum(1)


def _eigencam(a: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The first principal component of the activations (Muhammad and Yeasin 2020)."""
    return _first_component(a)


def _eigengradcam(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The first principal component of gradient times activation."""
    return _first_component(g * a)


def _first_component(values: torch.Tensor) -> torch.Tensor:
    """Project `(N, C, h, w)` on its first component; a component has no sign, and this one rises with the sum."""
    rows = values.flatten(2).transpose(1, 2)
    rows = rows - rows.mean(1, keepdim=True)
    _, _, directions = torch.linalg.svd(rows, full_matrices=False)
    projected = (rows @ directions[:, 0, :, None])[..., 0]
    sign = (projected * rows.sum(2)).sum(1, keepdim=True).sign()
    return (projected * torch.where(sign == 0, 1, sign)).unflatten(1, values.shape[2:])


WEIGHTINGS: dict[str, Weighting] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "xgradcam": _xgradcam,
    "hirescam": _hirescam,
    "layercam": _layercam,
    "eigencam": _eigencam,
    "eigengradcam": _eigengradcam,
}


def by_gradient(name: str, score: ClassScore, layer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Give the positive part `(N, h, w)` of one of `WEIGHTINGS`."""
    return F.relu(WEIGHTINGS[name](*activations_and_gradients(score, layer, images)))


def scorecam(score: ClassScore, layer: nn.Module, image: torch.Tensor, config: AttributionConfig) -> torch.Tensor:
    """Weights: a softmax over the scores of the image masked by each of the strongest channels (Wang et al. 2020).

    Takes one image `(1, 3, H, W)`, in which what a channel hides becomes the preprocessing's zero; gives the positive
    part `(1, h, w)` on the grid of the layer.
    """
    values = activations(score, layer, image)[0]
    kept = values.amax((1, 2)).argsort(descending=True, stable=True)[: config.score_channels]
    masks = F.interpolate(values[kept][:, None], image.shape[2:], mode="bilinear", align_corners=False)
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    masks = torch.where(high > low, (masks - low) / (high - low).clamp_min(1e-12), 0)
    baseline, size = score.model.baseline, config.batch_size
    scores = [score.in_batches(baseline + (image - baseline) * part, size) for part in masks.split(size)]
    weights = torch.cat(scores).softmax(0)
    return F.relu((weights[:, None, None] * values[kept]).sum(0))[None]


def ablationcam(score: ClassScore, layer: nn.Module, image: torch.Tensor, config: AttributionConfig) -> torch.Tensor:
    """Weights: by how much the score falls without a channel (Ramaswamy et al. 2020).

    Takes one image `(1, 3, H, W)`; gives the positive part `(1, h, w)` on the grid of the layer.
    """
    values = activations(score, layer, image)
    n = values.shape[1]
    with torch.no_grad():
        before = score(image)
        falls = []
        for part in torch.arange(n).split(config.batch_size):
            without = values.repeat(len(part), 1, 1, 1)
            without[torch.arange(len(part)), part] = 0
            falls.append(before - score_with(score, layer, image, without))
    return F.relu((torch.cat(falls)[:, None, None] * values[0]).sum(0))[None]


def linear_head(score: ClassScore, values: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Give the weights `(C,)` and bias by which the mean of a layer's output `(N, C, h, w)` becomes the score.

    Raises DefectlocError where the score is not that: dense layers in between, or another layer than the last.
    """
    network, target = score.model.network, score.target
    dense = [module for module in network.modules() if isinstance(module, nn.Linear)]
    weights, bias = None, None
    if isinstance(network, Classifier):
        weights, bias = network.head.weight[:, :, 0, 0], network.head.bias
    elif len(dense) == 1:
        weights, bias = dense[0].weight, dense[0].bias
    if weights is not None and weights.shape[1] == values.shape[1]:
        bias = torch.zeros(len(weights)).to(weights) if bias is None else bias
        if len(weights) == 2:
            weights, bias = weights - weights.flip(0), bias - bias.flip(0)
        row, offset = weights[target].detach(), float(bias[target])
        found = values.mean((2, 3)) @ row + offset
        if torch.allclose(found, scores, rtol=1e-3, atol=1e-3):
            return row, offset
    raise DefectlocError(
        "this method needs a layer whose global average goes straight into one dense layer; "
        "take the last convolutional layer of such a network, or method=gradcam, which needs neither."
    )


def cam(score: ClassScore, layer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Give the score taken apart, bias included `(N, h, w)`: its mean is the score (Zhou et al. 2016)."""
    values = activations(score, layer, images)
    with torch.no_grad():
        weights, bias = linear_head(score, values, score(images))
    return (values * weights[:, None, None]).sum(1) + bias
