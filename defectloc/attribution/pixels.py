"""Gradients at the pixels, by Captum."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from defectloc.attribution.class_activation import by_gradient
from defectloc.attribution.network import ClassScore
from defectloc.config import AttributionConfig
from defectloc.localization.maps import Grid, upsample


def saliency(score: ClassScore, images: torch.Tensor) -> torch.Tensor:
    """Give the largest magnitude over colours `(N, H, W)` of the gradient (Simonyan et al. 2014)."""
    from captum.attr import Saliency

    return Saliency(score).attribute(images.detach().requires_grad_()).amax(1).detach()


def guided_backprop(score: ClassScore, images: torch.Tensor) -> torch.Tensor:
    """Give the gradient `(N, H, W)` that only passes where it is positive (Springenberg et al. 2015).

    The largest magnitude over colours. ReLUs that are no modules, but functions, are not guided.
    """
    return _guided(score, images).abs().amax(1)


def guided_gradcam(
    score: ClassScore, layer: nn.Module, images: torch.Tensor, grid: Callable[[tuple[int, int]], Grid]
) -> torch.Tensor:
    """Give guided backpropagation times Grad-CAM `(N, H, W)` (Selvaraju et al. 2017).

    `grid` tells where the cells of a layer's map lie, by their number in (height, width).
    """
    size = (images.shape[2], images.shape[3])
    coarse = by_gradient("gradcam", score, layer, images).cpu().numpy()
    cells = grid(coarse.shape[1:])
    cams = torch.stack([torch.from_numpy(upsample(each, size, size, cells)) for each in coarse])
    return (_guided(score, images).abs() * cams.to(images.device)[:, None]).amax(1)


def _guided(score: ClassScore, images: torch.Tensor) -> torch.Tensor:
    from captum.attr import GuidedBackprop

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
        return GuidedBackprop(_Scored(score)).attribute(images.detach().requires_grad_()).detach()


class _Scored(nn.Module):
    """A score as a module, which Captum wants where it hooks ReLUs."""

    def __init__(self, score: ClassScore) -> None:
        super().__init__()
        self.network, self.score = score.model.network, score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.score(images)


def integrated_gradients(score: ClassScore, images: torch.Tensor, config: AttributionConfig) -> torch.Tensor:
    """Give the sum over colours `(N, H, W)` of gradients on the way from the preprocessing's zero to the image.

    They add up to the difference of the two scores, but for the number of steps (Sundararajan et al. 2017).
    """
    from captum.attr import IntegratedGradients

    baseline = score.model.baseline.expand_as(images[:1]).contiguous()
    method = IntegratedGradients(score)
    found = method.attribute(images, baseline, n_steps=config.steps, internal_batch_size=config.batch_size)
    return found.sum(1).detach().float()


def smoothgrad(score: ClassScore, images: torch.Tensor, config: AttributionConfig, seed: int) -> torch.Tensor:
    """Give the mean gradient of noisy copies of the image, as the largest magnitude over colours `(N, H, W)`.

    The signed gradients are averaged, so that what changes its sign from copy to copy cancels (Smilkov et al. 2017;
    the noise has a standard deviation of `noise` grey levels). The magnitude is taken of the mean: it is what is shown.
    """
    from captum.attr import NoiseTunnel, Saliency

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = NoiseTunnel(Saliency(score)).attribute(
            images.detach().requires_grad_(),
            nt_type="smoothgrad",
            abs=False,
            nt_samples=config.smooth_samples,
            nt_samples_batch_size=config.batch_size,
            stdevs=config.noise,
        )
    return found.abs().amax(1).detach()
