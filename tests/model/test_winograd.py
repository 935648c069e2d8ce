"""Winograd's convolutions against the plain ones."""

import pytest
import torch
from torch import nn

from defectloc.model import winograd
from defectloc.model.classifier import Classifier
from defectloc.model.levels import Level
from defectloc.model.winograd import WinogradConv2d, is_suited, with_winograd


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (14, 14), (7, 5), (1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_gives_what_the_convolution_gives(size, bias):
    convolution = nn.Conv2d(20, 12, 3, padding=1, bias=bias)
    images = torch.randn(3, 20, *size)
    with torch.inference_mode():
        found, expected = WinogradConv2d(convolution)(images), convolution(images)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * expected.abs().max().item())


@pytest.mark.parametrize("strip", [1, 20_000, 100_000])
def test_in_strips_it_is_the_same(strip, monkeypatch):
    convolution, images = nn.Conv2d(8, 4, 3, padding=1), torch.randn(2, 8, 23, 10)
    monkeypatch.setattr(winograd, "STRIP", 2**30)
    whole = WinogradConv2d(convolution)(images)
    monkeypatch.setattr(winograd, "STRIP", strip)
    torch.testing.assert_close(WinogradConv2d(convolution)(images), whole)


def test_in_double_precision_it_is_the_same_sum():
    convolution = nn.Conv2d(8, 8, 3, padding=1).double()
    images = torch.randn(2, 8, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(WinogradConv2d(convolution)(images), convolution(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "suited"),
    [
        (nn.Conv2d(128, 256, 3, padding=1), True),
        (nn.Conv2d(128, 256, 3, padding="same"), False),
        (nn.Conv2d(64, 256, 3, padding=1), False),
        (nn.Conv2d(256, 32, 3, padding=1), False),
        (nn.Conv2d(128, 128, 1), False),
        (nn.Conv2d(128, 128, 3), False),
        (nn.Conv2d(128, 128, 3, padding=1, stride=2), False),
        (nn.Conv2d(128, 128, 3, padding=2, dilation=2), False),
        (nn.Conv2d(128, 128, 3, padding=1, groups=2), False),
        (nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"), False),
        (nn.ConvTranspose2d(128, 128, 3, padding=1), False),
        (nn.ReLU(), False),
    ],
)
def test_other_layers_are_left_as_they_are(layer, suited):
    assert is_suited(layer) == suited
    assert isinstance(with_winograd(nn.Sequential(layer))[0], WinogradConv2d) == suited


def test_a_copy_of_the_classifier_gives_its_levels_and_channels_and_shares_its_weights():
    classifier = Classifier("vgg16", "conv5_1", "oxford").eval()
    before = [type(module) for module in classifier.modules()]
    twin = with_winograd(classifier)
    assert [type(module) for module in classifier.modules()] == before
    assert sum(isinstance(module, WinogradConv2d) for module in twin.modules()) == 10
    assert twin.get_submodule("trunk.conv1_1.conv").weight is classifier.get_submodule("trunk.conv1_1.conv").weight
    assert not any(module.training for module in twin.modules())
    images, levels = torch.rand(2, 3, 64, 64) * 255, [Level("conv3_3", pool=2), Level("conv4_3"), classifier.level]
    with torch.inference_mode():
        found, expected = twin.levels(images, levels), classifier.levels(images, levels)
        pairs = [(found[level], expected[level]) for level in levels]
        pairs.append((twin.channels(expected[classifier.level]), classifier.channels(expected[classifier.level])))
    for got, wanted in pairs:
        torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())
