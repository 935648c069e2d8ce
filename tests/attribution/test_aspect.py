"""Inputs that are wider than high: every method's map lies where it should, and turns with the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from defectloc.attribution.faithfulness import insertion_deletion
from defectloc.attribution.hiding import blurred
from defectloc.attribution.layers import find_layer, layers
from defectloc.attribution.methods import METHODS, attribute
from defectloc.attribution.network import ClassScore, ExplainedModel
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid, upsample
from tests.attribution.networks import CUTS, FEW, model_of, photographs

NAMES = [name for name, method in METHODS.items() if method.run is not None]
# What is random, or cuts one axis before the other.
UNSYMMETRIC = {"smoothgrad", "expected-gradients", "lime", "shap-partition", "rise"}
SIZE = (64, 96)
# Not on the diagonal, and beyond what a map with swapped axes could reach.
PATCH = (slice(8, 24), slice(72, 88))
ENOUGH = replace(FEW, lime_samples=150, rise_masks=1000, shap_evaluations=300, n_superpixels=24, expected_samples=12)


class Brightness(nn.Module):
    """Two classes; the log-odds is how far squares of 4 x 4 pixels are brighter than 150, on average."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4), nn.ReLU())
        self.fc = nn.Linear(2, 2)
        with torch.no_grad():
            self.features[0].weight.copy_(torch.full((2, 3, 4, 4), 1 / 48) * torch.tensor([1, -1])[:, None, None, None])
            self.features[0].bias.copy_(torch.tensor([-150.0, 50.0]))
            self.fc.weight.copy_(torch.tensor([[0, 0.2], [0.5, 0]]))
            self.fc.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images).mean((2, 3)))


def brightness(size: tuple[int, int]) -> ExplainedModel:
    baseline = torch.full((3, 1, 1), 110.0)
    return ExplainedModel(
        Brightness(), ["good", "anomaly"], size, baseline, background=lambda: photographs(3, size) / 255 * 20 + 90
    )


def with_patch() -> torch.Tensor:
    image = photographs(1, SIZE, seed=1) / 255 * 20 + 90
    image[..., PATCH[0], PATCH[1]] += 110
    return image


def at_pixels(found, size):
    return upsample(found.maps[0], size, size, found.grid)


@pytest.mark.parametrize("name", NAMES)
def test_the_map_lies_at_the_patch_and_turns_with_the_image(name):
    for package in METHODS[name].packages:
        pytest.importorskip(package)
    image, turned = with_patch(), with_patch().transpose(2, 3).contiguous()
    wide = attribute(name, brightness(SIZE), image, [1], ENOUGH, [0])
    high = attribute(name, brightness(SIZE[::-1]), turned, [1], ENOUGH, [0])
    is_coarse = METHODS[name].layer == "always" and name != "guided-gradcam"
    assert wide.maps.shape == ((1, 16, 24) if is_coarse else (1, *SIZE))
    assert wide.grid == high.grid == (Grid(4, 1.5) if is_coarse else Grid(1, 0))
    for found in (at_pixels(wide, SIZE), at_pixels(high, SIZE[::-1]).T):
        rest = found.copy()
        rest[PATCH] = np.nan
        peak = np.unravel_index(found.argmax(), SIZE)
        # Superpixels, masks and halves do not end where the patch does.
        assert all(side.start - 4 <= at < side.stop + 4 for side, at in zip(PATCH, peak, strict=True))
        assert found[PATCH].mean() > np.nanmean(rest) + 2 * np.nanstd(rest)
    assert high.maps.shape == wide.maps.transpose(0, 2, 1).shape
    if name not in UNSYMMETRIC:
        np.testing.assert_allclose(high.maps.transpose(0, 2, 1), wide.maps, atol=1e-4 * np.abs(wide.maps).max())


@pytest.mark.parametrize(("backbone", "cells"), [("vgg16", (4, 6)), ("resnet50", (2, 3)), ("densenet121", (2, 3))])
def test_real_networks_have_the_grid_of_square_inputs(backbone, cells):
    assert backbone in CUTS
    wide, square = model_of(backbone, SIZE), model_of(backbone)
    found = attribute("gradcam", wide, photographs(1, SIZE), [1], FEW, [0])
    assert found.maps.shape == (1, *cells)
    assert found.grid == attribute("gradcam", square, photographs(), [1], FEW, [0]).grid
    assert list(layers(wide.network, SIZE)) == list(layers(square.network, square.image_size))


def test_the_map_of_the_patch_is_more_faithful_than_another():
    model, image = brightness(SIZE), with_patch()
    importance = np.zeros(SIZE)
    importance[PATCH] = 1
    insertion, deletion = insertion_deletion(ClassScore(model, 1), image, importance, 10, 8, 0)
    elsewhere = insertion_deletion(ClassScore(model, 1), image, np.roll(importance, 32, 1), 10, 8, 0)
    assert insertion > elsewhere[0] + 0.05
    assert deletion < elsewhere[1] - 0.05
    turned = ClassScore(brightness(SIZE[::-1]), 1)
    found = insertion_deletion(turned, image.transpose(2, 3), importance.T, 10, 8, 0)
    # Pixels of equal importance come in random order.
    assert found == pytest.approx((insertion, deletion), abs=0.02)


def test_a_blur_is_as_wide_along_both_axes():
    image = photographs(1, SIZE)
    wide = blurred(image, 0.1)
    assert torch.allclose(blurred(image.transpose(2, 3), 0.1).transpose(2, 3), wide, atol=1e-3)
    # Far from where the parts of a square end, it is the square's.
    square = blurred(image[..., :64], 0.1)
    assert torch.allclose(wide[..., :50], square[..., :50], atol=1e-3)


class Pooled(nn.Module):
    """The cells of its last convolution follow from their number only."""

    def __init__(self, cells: tuple[int, int]) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.AdaptiveAvgPool2d(cells), nn.Conv2d(3, 2, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images).mean((2, 3))


def test_cells_that_are_known_by_their_number_are_squares_or_refused():
    def gradcam(cells):
        model = ExplainedModel(Pooled(cells), ["good", "anomaly"], SIZE, torch.zeros(3, 1, 1))
        return attribute("gradcam", model, photographs(1, SIZE), [1], FEW, [0])

    assert gradcam((4, 6)).grid == Grid(16, 7.5)
    with pytest.raises(DefectlocError, match=r"4 x 5 cells .* 64 x 96 pixels is not known"):
        gradcam((4, 5))


class ChannelsLast(nn.Module):
    """As transformers with windows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.patches(images).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("size", "channels"), [((64, 96), 96), ((320, 352), 96), ((64, 96), 30)])
def test_channels_that_come_last_are_no_side_of_a_map(size, channels):
    network = nn.Module()
    network.stage = ChannelsLast(channels)
    network.forward = lambda images: network.stage(images).mean((1, 2))
    model = ExplainedModel(network, ["good", "anomaly"], size, torch.zeros(3, 1, 1))
    with pytest.raises(DefectlocError, match="no convolutional maps"):
        find_layer(model, None)
