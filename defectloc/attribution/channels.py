"""What the channels of the last convolution add to the score and take from it."""

import numpy as np
import torch
from torch import nn

from defectloc.attribution.activations import activations
from defectloc.attribution.class_activation import linear_head
from defectloc.attribution.network import ClassScore

# As many that add, and as many that take.
SHOWN = 4


def contributions(
    score: ClassScore, layer: nn.Module, image: torch.Tensor, shown: int = SHOWN
) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Give the class activation map `(1, h, w)` of one image, and the channels that count most.

    The parts: `index` `(K,)`, `weight` `(K,)`, `contribution` `(K,)` (weight times mean activation; all channels and
    the bias add up to the score) and `map` `(K, h, w)`; first those that add most, then those that take most.
    """
    values = activations(score, layer, image)
    with torch.no_grad():
        weights, bias = linear_head(score, values, score(image))
    added = weights * values[0].mean((1, 2))
    order = added.argsort(descending=True, stable=True)
    n = min(shown, len(order) // 2)
    kept = torch.cat([order[:n], order[len(order) - n :].flip(0)])
    parts = {"index": kept, "weight": weights[kept], "contribution": added[kept], "map": values[0, kept]}
    total = (values * weights[:, None, None]).sum(1) + bias
    return total, {name: value.cpu().numpy() for name, value in parts.items()} | {"bias": np.array(bias)}
