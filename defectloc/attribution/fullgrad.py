"""FullGrad: the score taken apart into the input's share and each bias's (Srinivas and Fleuret 2019)."""

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import nn

from defectloc.attribution.network import ClassScore


def shares(score: ClassScore, images: torch.Tensor) -> list[torch.Tensor]:
    """Give gradient times input `(N, 3, H, W)`, then gradient times bias `(N, C, h, w)` of each convolution and
    normalisation; of a network of ReLUs and poolings they all, with the biases of dense layers, add up to the score.

    The input is counted from the preprocessing's zero.
    """
    outputs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        bias = _bias(module)
        if bias is not None:
            outputs.append((output, bias))

    with ExitStack() as hooks, torch.enable_grad():
        for module in score.model.network.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                hooks.callback(module.register_forward_hook(note).remove)
        images = images.detach().requires_grad_()
        gradients = torch.autograd.grad(score(images).sum(), [images, *(output for output, _ in outputs)])
    own = gradients[0] * (images.detach() - score.model.baseline)
    return [own] + [g * bias[:, None, None] for g, (_, bias) in zip(gradients[1:], outputs, strict=True)]


def _bias(module: nn.Module) -> torch.Tensor | None:
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_mean is not None
        assert module.running_var is not None
        return module.bias - module.running_mean * module.weight / (module.running_var + module.eps).sqrt()
    bias = module.bias
    return bias if isinstance(bias, torch.Tensor) else None


def fullgrad(score: ClassScore, images: torch.Tensor) -> torch.Tensor:
    """Give the sum `(N, H, W)` of the shares' magnitudes, each channel rescaled to 0..1, as the paper shows them."""
    total = torch.zeros(images.shape[0], *images.shape[2:], device=score.model.device)
    for share in shares(score, images):
        each = share.abs()
        low, high = each.amin((2, 3), keepdim=True), each.amax((2, 3), keepdim=True)
        each = torch.where(high > low, (each - low) / (high - low).clamp_min(1e-12), 0)
        # The sum over channels first: upsampling is linear, and this holds one map instead of hundreds.
        summed = each.sum(1, keepdim=True)
        total += F.interpolate(summed, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return total
