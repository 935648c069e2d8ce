"""A layer's output, read and replaced."""

import numpy as np
import pytest
import torch

from defectloc.attribution.activations import activations_and_gradients, score_with
from defectloc.attribution.layers import find_layer
from defectloc.attribution.network import ClassScore, undisturbed
from tests.attribution.networks import CUTS, model_of, photographs, scores_of


@pytest.fixture(scope="module", params=CUTS)
def model(request):
    return model_of(request.param)


def test_replacing_a_layer_by_its_own_output_changes_nothing(model):
    names = {"vgg16": "conv3_1", "resnet50": "layer2", "densenet121": "denseblock3.denselayer4"}
    layer = find_layer(model, names[model.network.backbone])[1]
    score = ClassScore(model, 1)
    with undisturbed(model.network), torch.no_grad():
        values, _ = activations_and_gradients(score, layer, photographs())
        found = score_with(score, layer, photographs(), values.repeat(3, 1, 1, 1))
    np.testing.assert_allclose(found, np.repeat(scores_of(model, photographs()), 3), rtol=1e-4, atol=1e-4)
