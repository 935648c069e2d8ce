"""Expected gradients add up, and need background images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from defectloc.attribution.methods import attribute
from defectloc.errors import DefectlocError
from tests.attribution.networks import FEW, photographs, scores_of, tiny


@pytest.mark.parametrize("layer", [None, "features.0", "features.2"])
def test_expected_gradients_add_up_to_the_difference_of_scores(layer):
    model = tiny()
    images = photographs(2, 16) * torch.tensor([1.0, 0.3])[:, None, None, None]
    many = replace(FEW, expected_samples=400, noise=0.0)
    found = attribute("expected-gradients", model, images, [2, 2], many, [0, 1], layer=layer)
    difference = scores_of(model, images, 2) - scores_of(model, model.background(), 2).mean()
    assert np.abs(difference).max() > 0.05
    np.testing.assert_allclose(found.maps.sum((1, 2)), difference, atol=2e-3)


def test_expected_gradients_without_background():
    model = tiny()
    model.background = None
    with pytest.raises(DefectlocError, match="good training images"):
        attribute("expected-gradients", model, photographs(1, 16), [0], FEW, [0])
