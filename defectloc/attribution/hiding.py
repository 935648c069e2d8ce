"""What takes the place of what is hidden."""

import math

import torch
from torchvision.transforms.v2.functional import gaussian_blur


def blurred(image: torch.Tensor, share: float) -> torch.Tensor:
    """Blur images `(N, 3, H, W)` by a Gaussian whose standard deviation is half of a share of the shorter side."""
    side = min(image.shape[2:])
    sigma = max(0.5, share * side / 2)
    # The reflection at the border reaches less than a whole image far.
    reach = min(math.ceil(3 * sigma), side - 1)
    size = 2 * reach + 1
    # One axis after the other: torchvision's kernel has two dimensions, which for a wide blur costs a hundredfold.
    return gaussian_blur(gaussian_blur(image, [size, 1], [sigma, sigma]), [1, size], [sigma, sigma])
