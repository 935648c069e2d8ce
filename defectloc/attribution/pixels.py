"""Gradients at the pixels, by Captum."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from defectloc.attribution.class_activation import by_gradient
from defectloc.attribution.subject import Question
from defectloc.config import AttributionConfig
from defectloc.localization.maps import Grid, upsample


def saliency(question: Question, images: torch.Tensor) -> torch.Tensor:
    """Give the largest magnitude over colours `(N, S, S)` of the gradient (Simonyan et al. 2014)."""
    from captum.attr import Saliency

    return Saliency(question.score).attribute(images.detach().requires_grad_()).amax(1).detach()


def guided_backprop(question: Question, images: torch.Tensor) -> torch.Tensor:
    """Give the gradient `(N, S, S)` that only passes where it is positive (Springenberg et al. 2015).

    The largest magnitude over colours. ReLUs that are no modules, but functions, are not guided.
    """
    return _guided(question, images).abs().amax(1)


def guided_gradcam(
    question: Question, layer: nn.Module, images: torch.Tensor, grid: Callable[[int], Grid]
) -> torch.Tensor:
    """Give guided backpropagation times Grad-CAM `(N, S, S)` (Selvaraju et al. 2017).

    `grid` tells where the cells of a layer's map lie, by their number.
    """
    size = (images.shape[2], images.shape[3])
    coarse = by_gradient("gradcam", question, layer, images).cpu().numpy()
    cams = torch.stack([torch.from_numpy(upsample(each, size, size[0], grid(coarse.shape[-1]))) for each in coarse])
    return (_guided(question, images).abs() * cams.to(images.device)[:, None]).amax(1)


def _guided(question: Question, images: torch.Tensor) -> torch.Tensor:
    from captum.attr import GuidedBackprop

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
        return GuidedBackprop(_Scored(question)).attribute(images.detach().requires_grad_()).detach()


class _Scored(nn.Module):
    """A question as a module, which Captum wants where it hooks ReLUs."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.network, self.question = question.subject.network, question

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.question.score(images)


def integrated_gradients(question: Question, images: torch.Tensor, config: AttributionConfig) -> torch.Tensor:
    """Give the sum over colours `(N, S, S)` of gradients on the way from the preprocessing's zero to the image.

    They add up to the difference of the two scores, but for the number of steps (Sundararajan et al. 2017).
    """
    from captum.attr import IntegratedGradients

    baseline = question.subject.blank.expand_as(images[:1]).contiguous()
    method = IntegratedGradients(question.score)
    found = method.attribute(images, baseline, n_steps=config.steps, internal_batch_size=config.gradient_chunk)
    return found.sum(1).detach().float()


def smoothgrad(question: Question, images: torch.Tensor, config: AttributionConfig, seed: int) -> torch.Tensor:
    """Give the mean saliency `(N, S, S)` of noisy copies of the image (Smilkov et al. 2017)."""
    from captum.attr import NoiseTunnel, Saliency

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = NoiseTunnel(Saliency(question.score)).attribute(
            images.detach().requires_grad_(),
            nt_type="smoothgrad",
            nt_samples=config.smooth_samples,
            nt_samples_batch_size=config.gradient_chunk,
            stdevs=config.noise,
        )
    return found.amax(1).detach()
