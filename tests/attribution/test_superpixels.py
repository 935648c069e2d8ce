"""LIME: its kernel, its superpixels, and what hides them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances
from torch import nn

from defectloc.attribution.methods import attribute
from defectloc.attribution.network import ExplainedModel
from defectloc.attribution.superpixels import kernel
from tests.attribution.networks import FEW


class Darkness(nn.Module):
    """Two classes; the log-odds is how much of the image is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = torch.relu(100 - images.mean(1)).mean((1, 2)) * self.scale
        return torch.stack([-value, value], 1)


def cracked(width: int) -> tuple[torch.Tensor, ExplainedModel]:
    """Give a dark band across the middle of a bright image of 64 px."""
    image = torch.full((1, 3, 64, 64), 200.0)
    image[:, :, 31 - width // 2 : 31 + width // 2] = 20
    return image, ExplainedModel(Darkness(), ["good", "anomaly"], 64, torch.zeros(3, 1, 1))


def test_kernel_is_that_of_the_lime_package():
    """Written out as there: scikit-learn's cosine distances from the first sample, which shows all superpixels."""
    data = np.random.default_rng(0).integers(0, 2, (30, 12)).astype(float)
    data[0], data[1] = 1, 0
    distances = pairwise_distances(data, data[:1], metric="cosine").ravel()
    expected = np.sqrt(np.exp(-(distances**2) / 0.25**2))
    np.testing.assert_allclose(kernel(torch.from_numpy(data)), expected, atol=1e-12)
    assert expected[1] == pytest.approx(np.exp(-8))


def test_quickshift_cuts_where_the_colour_changes():
    pytest.importorskip("captum")
    pytest.importorskip("skimage")
    image, model = cracked(20)
    # Without any grain, many paths are equally steep.
    image += 2 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    config = replace(FEW, lime_samples=100, superpixels="quickshift")
    found = attribute("lime", model, image, [1], config, [0])
    segments = found.parts[0]["segments"]
    assert not np.intersect1d(segments[25:39], segments[:18]).size
    assert found.maps[0][25:39].min() > 10 * np.abs(found.maps[0][:18]).max()


def test_lime_hides_a_dark_crack_only_by_a_blur():
    """A superpixel that follows a crack has the crack's own colour for its mean."""
    pytest.importorskip("captum")
    pytest.importorskip("skimage")
    image, model = cracked(6)
    many = replace(FEW, lime_samples=200, n_superpixels=30)
    values = attribute("lime", model, image, [1], many, [0]).maps[0]
    elsewhere = np.delete(values, np.s_[24:38], axis=0)
    assert values[28:34].min() > 0
    assert values[28:34].mean() > 10 * np.abs(elsewhere).mean()
    by_mean = attribute("lime", model, image, [1], replace(many, lime_hide="mean"), [0]).maps[0]
    assert np.abs(by_mean[28:34]).mean() < 0.2 * values[28:34].mean()
