"""What takes the place of what is hidden."""

import torch
import torch.nn.functional as F


def blurred(image: torch.Tensor, share: float) -> torch.Tensor:
    """Blur images `(N, 3, S, S)` by three boxes of a share of the side, which is nearly a Gaussian."""
    reach = max(1, round(share * image.shape[-1] / 2))
    for _ in range(3):
        padded = F.pad(image, (reach,) * 4, mode="reflect")
        image = F.avg_pool2d(padded, 2 * reach + 1, stride=1)
    return image
