"""The channels that add most to the score and take most from it."""

import numpy as np
import pytest

from defectloc.attribution.channels import SHOWN, contributions
from defectloc.attribution.layers import find_layer
from defectloc.attribution.methods import attribute
from defectloc.attribution.network import ClassScore, undisturbed
from tests.attribution.networks import CUTS, FEW, model_of, photographs, scores_of


@pytest.fixture(scope="module", params=CUTS)
def model(request):
    return model_of(request.param)


def test_channels_add_up_to_the_score(model):
    layer = find_layer(model, None)[1]
    with undisturbed(model.network):
        found, parts = contributions(ClassScore(model, 1), layer, photographs(), shown=10_000)
    assert len(set(parts["index"])) == model.network.head.in_channels
    total = parts["contribution"].sum() + parts["bias"]
    np.testing.assert_allclose(total, scores_of(model, photographs())[0], rtol=1e-3, atol=1e-3)
    summed = (parts["weight"][:, None, None] * parts["map"]).sum(0) + parts["bias"]
    np.testing.assert_allclose(summed, found[0].numpy(), rtol=1e-3, atol=1e-3)
    few = attribute("channels", model, photographs(), [1], FEW, [0]).parts[0]["contribution"]
    assert list(few[:SHOWN]) == sorted(parts["contribution"])[::-1][:SHOWN]
    assert list(few[SHOWN:]) == sorted(parts["contribution"])[:SHOWN]
