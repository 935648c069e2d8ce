"""Expected gradients, the idea of SHAP's GradientExplainer, at the pixels or at an inner layer."""

import torch
from torch import nn

from defectloc.attribution.activations import activations, score_with
from defectloc.attribution.network import ClassScore
from defectloc.config import AttributionConfig
from defectloc.errors import DefectlocError

# The usual standard deviation of a photograph: at an inner layer the noise keeps its ratio to what varies there.
GREY_LEVELS = 60


def expected_gradients(
    score: ClassScore, layer: nn.Module | None, image: torch.Tensor, config: AttributionConfig, seed: int
) -> torch.Tensor:
    """Give the sum over channels `(1, h, w)` of gradients on the ways from background images to the image.

    Each of `expected_samples` pairs a background image with a place on its way (Erion et al. 2021; SmoothGrad's noise
    as SHAP's local smoothing). The places are spread evenly, one in each of equal parts of the way, which makes the
    values add up to the image's score less the backgrounds' mean score far sooner than random places. Takes one
    image. Raises DefectlocError without background images.
    """
    if score.model.background is None:
        raise DefectlocError("method=expected-gradients starts from good training images, which only a run has.")
    end, starts, scale = image, score.model.background().to(image.device), config.noise
    if layer is not None:
        end = activations(score, layer, image)
        starts = torch.cat([activations(score, layer, part) for part in starts.split(config.batch_size)])
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
    for part in torch.arange(n).split(config.batch_size):
        begins, at = starts[which[part]], place[part].to(end)[:, None, None, None]
        # One by one, so that the batch size changes no number.
        noise = torch.stack([torch.randn(end.shape[1:], generator=generator) for _ in part]).to(end) * scale
        with torch.enable_grad():
            points = (begins + at * (end - begins) + noise).detach().requires_grad_()
            scores = score(points) if layer is None else score_with(score, layer, image, points)
            (gradients,) = torch.autograd.grad(scores.sum(), points)
        total += ((end - begins) * gradients / per_start[part].to(end)[:, None, None, None]).sum(0)
    return (total / len(which.unique())).sum(1)
