"""Gradients at the pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from defectloc.attribution.methods import attribute
from defectloc.attribution.network import ClassScore, ExplainedModel
from tests.attribution.networks import CUTS, FEW, model_of, photographs, scores_of, tiny


@pytest.fixture(scope="module", params=CUTS)
def model(request):
    return model_of(request.param)


def test_integrated_gradients_add_up_to_the_difference_of_scores():
    pytest.importorskip("captum")
    model = tiny()
    images = photographs(2, 16)
    found = attribute("integrated-gradients", model, images, [2, 2], replace(FEW, steps=300), [0, 0])
    baseline = model.baseline.expand(1, 3, 16, 16)
    difference = scores_of(model, images, 2) - scores_of(model, baseline, 2)
    np.testing.assert_allclose(found.maps.sum((1, 2)), difference, atol=1e-3)


def test_guided_backprop_passes_only_what_is_positive(model):
    """Against a network whose ReLUs are replaced by functions with that backward pass, used once or several times."""
    pytest.importorskip("captum")

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            context.save_for_backward(values)
            return values.clamp_min(0)

        @staticmethod
        def backward(context, gradient):
            (values,) = context.saved_tensors
            return gradient.clamp_min(0) * (values > 0)

    class Module(nn.Module):
        def forward(self, values):
            return Guided.apply(values)

    other = model_of(model.network.backbone)
    for parent in list(other.network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, Module())
    images = photographs().requires_grad_()
    (expected,) = torch.autograd.grad(ClassScore(other, 1)(images).sum(), images)
    expected = expected.abs().amax(1).numpy()
    found = attribute("guided-backprop", model, photographs(), [1], FEW, [0]).maps
    np.testing.assert_allclose(found / expected.max(), expected / expected.max(), atol=1e-4)


class Distance(nn.Module):
    """Two classes; the log-odds is the sum of the distances of all values from 128."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = (images - 128).abs().sum((1, 2, 3)) * self.scale / 2
        return torch.stack([-value, value], 1)


def test_smoothgrad_averages_signed_gradients():
    """Where the noise decides the gradient's sign the mean cancels; far from there all copies agree."""
    pytest.importorskip("captum")
    image = torch.full((1, 3, 16, 16), 128.0)
    image[:, :, :8] = 255
    model = ExplainedModel(Distance(), ["good", "anomaly"], 16, torch.zeros(3, 1, 1))
    config = replace(FEW, smooth_samples=400, noise=20.0, batch_size=50)
    found = attribute("smoothgrad", model, image, [1], config, [0]).maps[0]
    np.testing.assert_allclose(found[:8], 1, atol=1e-5)
    assert found[8:].max() < 0.25
    # Of the other class all signs are reversed, and the magnitude of the mean is the same.
    reversed_ = attribute("smoothgrad", model, image, [0], config, [0]).maps[0]
    np.testing.assert_allclose(found, reversed_, atol=1e-6)
