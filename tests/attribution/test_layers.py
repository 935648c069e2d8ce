"""Layers by name, where their cells lie, and networks as torchvision publishes them."""

import pytest
import torch

from defectloc.attribution.layers import find_layer, grid_of, layers
from defectloc.attribution.methods import attribute
from defectloc.attribution.network import ExplainedModel
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid
from defectloc.model.published import published
from tests.attribution.networks import FEW, SIZE, model_of, photographs


def published_model(name, size=SIZE):
    network, classes, _ = published(name, "none")
    return ExplainedModel(network, classes, (size, size), network[0].mean)


@pytest.mark.parametrize(
    ("backbone", "layer", "cells", "grid"),
    [
        ("vgg16", "conv1_1", 64, Grid(1, 0)),
        ("vgg16", "pool2", 16, Grid(4, 1.5)),
        ("vgg16", "conv5_3", 4, Grid(16, 7.5)),
        ("resnet50", "layer1", 16, Grid(4, 0)),
        ("resnet50", "layer2.0", 8, Grid(8, 0)),
        ("resnet50", "layer4", 2, Grid(32, 0)),
        ("densenet121", "denseblock2", 8, Grid(8, 2)),
        ("densenet121", "relu5", 2, Grid(32, 14)),
    ],
)
def test_cells_lie_at_their_receptive_fields(backbone, layer, cells, grid):
    model = model_of(backbone)
    assert grid_of(model, find_layer(model, layer)[1], (cells, cells)) == grid


@pytest.mark.parametrize(
    ("name", "last", "grid"),
    [("resnet18", "layer4", Grid(32, 0)), ("mobilenet_v2", "features.18", Grid(32, 0))],
)
def test_published_networks(name, last, grid):
    model = published_model(name)
    assert len(model.classes) == 1000
    assert find_layer(model, None)[0] == last
    assert not any(getattr(module, "inplace", False) for module in model.network.modules())
    found = attribute("gradcam", model, photographs(), [281], FEW, [0])
    assert found.grid == grid
    assert found.maps.shape == (1, 2, 2)


def test_cam_of_a_published_network_is_its_logit_taken_apart():
    model = published_model("resnet18")
    found = attribute("cam", model, photographs(), [281], FEW, [0])
    with torch.no_grad():
        assert found.maps.mean() == pytest.approx(float(model.network(photographs())[0, 281]), rel=1e-3, abs=1e-4)


def test_cam_needs_a_network_of_one_dense_layer():
    model = published_model("squeezenet1_1")
    with pytest.raises(DefectlocError, match="method=gradcam"):
        attribute("cam", model, photographs(), [0], FEW, [0])


def test_network_without_maps():
    model = published_model("vit_b_32", 224)
    # The cells of its first layer are the only map.
    assert list(layers(model.network, (224, 224))) == ["conv_proj"]


def test_a_transformer_with_windows_has_no_convolutional_maps():
    """Its stages put the channels last."""
    with pytest.raises(DefectlocError, match="no convolutional maps"):
        find_layer(published_model("swin_t"), None)
