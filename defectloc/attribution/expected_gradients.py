"""Expected gradients, the idea of SHAP's GradientExplainer, at the pixels or at an inner layer."""

import torch
from torch import nn

from defectloc.attribution.layer import activations, score_with
from defectloc.attribution.subject import Question
from defectloc.config import AttributionConfig
from defectloc.errors import DefectlocError

# What photographs vary by, so that noise at an inner layer is as strong beside what varies there.
GREY_LEVELS = 60


def expected_gradients(
    question: Question, layer: nn.Module | None, image: torch.Tensor, config: AttributionConfig, seed: int
) -> torch.Tensor:
    """Give the sum over channels `(1, h, w)` of gradients on the ways from background images to the image.

    Each of `expected_samples` pairs a background image with a place on its way (Erion et al. 2021; SmoothGrad's noise
    as SHAP's local smoothing). The places are spread evenly, one in each of equal parts of the way, which makes the
    values add up to the image's score less the backgrounds' mean score far sooner than places drawn freely. Takes one
    image. Raises DefectlocError without background images.
    """
    if question.subject.background is None:
        raise DefectlocError("method=expected-gradients starts from good training images, which only a run has.")
    end, starts, scale = image, question.subject.background().to(image.device), config.noise
    if layer is not None:
        end = activations(question, layer, image)
        starts = torch.cat([activations(question, layer, part) for part in starts.split(config.chunk)])
        # The noise is given in grey levels.
        scale = config.noise / GREY_LEVELS * float(end.std())
    generator = torch.Generator().manual_seed(seed)
    n = config.expected_samples
    which = torch.arange(n) % len(starts)
    # Each background image has its own even spread.
    rank = torch.zeros(n, dtype=torch.long)
    for start in which.unique():
        members = (which == start).nonzero()[:, 0]
        rank[members] = torch.randperm(len(members), generator=generator)
    per_start = torch.bincount(which, minlength=len(starts))[which]
    place = (rank + torch.rand(n, generator=generator)) / per_start
    total = torch.zeros_like(end)
    for chunk in torch.arange(n).split(config.gradient_chunk):
        begins, at = starts[which[chunk]], place[chunk].to(end)[:, None, None, None]
        # One by one, so that the chunk changes no number.
        noise = torch.stack([torch.randn(end.shape[1:], generator=generator) for _ in chunk]).to(end) * scale
        with torch.enable_grad():
            points = (begins + at * (end - begins) + noise).detach().requires_grad_()
            score = question.score(points) if layer is None else score_with(question, layer, image, points)
            (gradients,) = torch.autograd.grad(score.sum(), points)
        total += ((end - begins) * gradients / per_start[chunk].to(end)[:, None, None, None]).sum(0)
    return (total / len(which.unique())).sum(1)
