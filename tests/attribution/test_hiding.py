"""The blur that hides parts of an image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from defectloc.attribution.hiding import blurred


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_blur_is_scipys_gaussian(share):
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    expected = gaussian_filter(image.double().numpy(), share * 32, mode="mirror", truncate=3, axes=(2, 3))
    np.testing.assert_allclose(blurred(image, share), expected, atol=0.5)


@pytest.mark.parametrize("side", [2, 3, 8])
def test_blur_of_a_tiny_or_flat_image(side):
    image = torch.full((1, 3, side, side), 90.0)
    torch.testing.assert_close(blurred(image, 1.0), image)
