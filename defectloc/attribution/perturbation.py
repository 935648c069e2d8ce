"""What the score becomes when parts of the image are hidden."""

import torch
import torch.nn.functional as F

from defectloc.attribution.subject import Question
from defectloc.config import AttributionConfig


def occlusion(question: Question, image: torch.Tensor, config: AttributionConfig) -> torch.Tensor:
    """Give by how much the score falls `(1, S, S)` where a square of the preprocessing's zero lies over the image.

    By Captum; where squares overlap the mean of their falls (Zeiler and Fergus 2014).
    """
    from captum.attr import Occlusion

    side = image.shape[-1]
    window, stride = (max(1, round(share * side)) for share in (config.window, config.stride))
    stride = min(stride, window)
    with torch.no_grad():
        found = Occlusion(question.score).attribute(
            image,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=question.subject.blank.expand_as(image).contiguous(),
            perturbations_per_eval=config.chunk,
        )
    # Captum gives all three colours of a square its fall.
    return found[:, 0]


def rise(question: Question, image: torch.Tensor, config: AttributionConfig, seed: int) -> torch.Tensor:
    """Give the mean probability `(1, S, S)` of random masks that show a pixel (Petsiuk et al. 2018).

    Half of the cells of each mask are shown, its edges are soft, and its place is random.
    """
    generator = torch.Generator().manual_seed(seed)
    side, cells, n = image.shape[-1], config.rise_cells, config.rise_masks
    cell = -(-side // cells)
    blank = question.subject.blank
    coarse = (torch.rand(n, 1, cells + 1, cells + 1, generator=generator) < 0.5).float()
    shifts = torch.randint(0, cell, (n, 2), generator=generator)
    total, shown = torch.zeros(side, side).to(image), torch.zeros(side, side).to(image)
    for chunk in torch.arange(n).split(config.chunk):
        large = F.interpolate(coarse[chunk], ((cells + 1) * cell,) * 2, mode="bilinear", align_corners=False)
        moved = zip(large, shifts[chunk].tolist(), strict=True)
        masks = torch.stack([mask[:, y : y + side, x : x + side] for mask, (y, x) in moved])
        masks = masks.to(image)
        chance = question.in_chunks(blank + (image - blank) * masks, config.chunk, probability=True)
        total += (chance[:, None, None] * masks[:, 0]).sum(0)
        shown += masks[:, 0].sum(0)
    return (total / shown.clamp_min(1e-6))[None]
