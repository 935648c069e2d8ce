"""What the score becomes when parts of the image are hidden."""

import torch
import torch.nn.functional as F

from defectloc.attribution.network import ClassScore
from defectloc.config import AttributionConfig

# Of the masks of RISE along the shorter side, as in its paper.
RISE_CELLS = 7


def occlusion(score: ClassScore, image: torch.Tensor, config: AttributionConfig) -> torch.Tensor:
    """Give by how much the score falls `(1, H, W)` where a square of the preprocessing's zero lies over the image.

    By Captum; `window` is a share of the shorter side. The squares move by half of their side, and where they overlap
    the mean of their falls counts (Zeiler and Fergus 2014).
    """
    from captum.attr import Occlusion

    side = min(image.shape[2:])
    window = max(1, round(config.window * side))
    stride = max(1, round(config.window * side / 2))
    with torch.no_grad():
        found = Occlusion(score).attribute(
            image,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=score.model.baseline.expand_as(image).contiguous(),
            perturbations_per_eval=config.batch_size,
        )
    # Captum gives all three colours of a square its fall.
    return found[:, 0]


def rise(score: ClassScore, image: torch.Tensor, config: AttributionConfig, seed: int) -> torch.Tensor:
    """Give the mean probability `(1, H, W)` of random masks that show a pixel (Petsiuk et al. 2018).

    Half of the square cells of each mask are shown, its edges are soft, and its place is random.
    """
    generator = torch.Generator().manual_seed(seed)
    (height, width), n = image.shape[2:], config.rise_masks
    cell = -(-min(height, width) // RISE_CELLS)
    # One more than cover the image, since the mask is moved.
    rows, columns = (max(RISE_CELLS, -(-side // cell)) + 1 for side in (height, width))
    baseline = score.model.baseline
    coarse = (torch.rand(n, 1, rows, columns, generator=generator) < 0.5).float()
    shifts = torch.randint(0, cell, (n, 2), generator=generator)
    total, shown = torch.zeros(height, width).to(image), torch.zeros(height, width).to(image)
    for part in torch.arange(n).split(config.batch_size):
        large = F.interpolate(coarse[part], (rows * cell, columns * cell), mode="bilinear", align_corners=False)
        moved = zip(large, shifts[part].tolist(), strict=True)
        masks = torch.stack([mask[:, y : y + height, x : x + width] for mask, (y, x) in moved]).to(image)
        masked = baseline + (image - baseline) * masks
        probabilities = score.in_batches(masked, config.batch_size, probability=True)
        total += (probabilities[:, None, None] * masks[:, 0]).sum(0)
        shown += masks[:, 0].sum(0)
    return (total / shown.clamp_min(1e-6))[None]
