"""Layers by name, where their cells lie, and networks as torchvision publishes them."""

import pytest
import torch
from asked import FEW, SIZE, photographs, subject_of
from torch import nn
from torchvision import models

from defectloc.attribution.methods import attribute
from defectloc.attribution.subject import Subject, find_layer, grid_of, layers, undisturbed
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid
from defectloc.model.published import published


def published_subject(name, size=SIZE):
    network, classes, _ = published(name, "none")
    return Subject(network, classes, size, network[0].mean)


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
def test_cells_lie_where_the_backbone_looks(backbone, layer, cells, grid):
    asked = subject_of(backbone)
    assert grid_of(asked, find_layer(asked, layer)[1], cells) == grid


def test_undisturbed_puts_back_modes_and_wishes_also_after_an_exception():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    network[0].weight.requires_grad_(False)
    network[1].eval()
    seen = []

    def broken():
        with undisturbed(network):
            seen.extend([network.training, network[0].training, *(p.requires_grad for p in network.parameters())])
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        broken()
    assert seen == [False] * 6
    assert network.training
    assert network[0].training
    assert not network[1].training
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True, True, True]


@pytest.mark.parametrize(
    ("name", "last", "grid"),
    [("resnet18", "layer4", Grid(32, 0)), ("mobilenet_v2", "features.18", Grid(32, 0))],
)
def test_published_networks(name, last, grid):
    asked = published_subject(name)
    assert len(asked.classes) == 1000
    assert find_layer(asked, None)[0] == last
    assert not any(getattr(module, "inplace", False) for module in asked.network.modules())
    found = attribute("gradcam", asked, photographs(), [281], FEW, [0])
    assert found.grid == grid
    assert found.maps.shape == (1, 2, 2)


def test_cam_of_a_published_network_is_its_logit_taken_apart():
    asked = published_subject("resnet18")
    found = attribute("cam", asked, photographs(), [281], FEW, [0])
    with torch.no_grad():
        assert found.maps.mean() == pytest.approx(float(asked.network(photographs())[0, 281]), rel=1e-3, abs=1e-4)


def test_cam_needs_a_network_of_one_dense_layer():
    asked = published_subject("squeezenet1_1")
    with pytest.raises(DefectlocError, match="method=gradcam"):
        attribute("cam", asked, photographs(), [0], FEW, [0])


def test_network_without_maps():
    asked = published_subject("vit_b_32", 224)
    # The cells of its first layer are the only map.
    assert list(layers(asked.network, 224)) == ["conv_proj"]


def test_a_transformer_with_windows_has_no_convolutional_maps():
    """Its stages put the channels last."""
    with pytest.raises(DefectlocError, match="no convolutional maps"):
        find_layer(published_subject("swin_t"), None)


def test_networks_that_want_other_colours_get_them():
    """The weights of GoogLeNet were made for other colours than torchvision's, which it is told by an option."""
    assert published("googlenet", "none")[0][1].transform_input
    shifted = published("efficientnet_v2_l", "none")[0][0]
    assert shifted(torch.full((1, 3, 1, 1), 127.5)).abs().max() < 1e-6


def test_published_preprocessing_is_torchvisions():
    network, _, size = published("resnet18", "none")
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    assert size == 224
    images = photographs().round()
    expected = weights.transforms(crop_size=SIZE, resize_size=SIZE)(images.to(torch.uint8))
    torch.testing.assert_close(network[0](images), expected, rtol=1e-4, atol=1e-4)


def test_published_network_from_a_file(tmp_path):
    own = models.resnet18(num_classes=7)
    torch.save({"state_dict": {f"module.{k}": v for k, v in own.state_dict().items()}}, tmp_path / "own.pt")
    network, classes, _ = published("resnet18", str(tmp_path / "own.pt"))
    assert classes == ["0", "1", "2", "3", "4", "5", "6"]
    for key, value in own.state_dict().items():
        assert torch.equal(network[1].state_dict()[key], value)


@pytest.mark.parametrize("what", ["name", "misfit", "shape", "file"])
def test_published_network_that_does_not_fit(tmp_path, what):
    torch.save(models.resnet18().state_dict(), tmp_path / "own.pt")
    state = torch.load(tmp_path / "own.pt", weights_only=True)
    state["conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "shape.pt")
    name, weights, word = {
        "name": ("resnet19", "none", "resnet18"),
        "misfit": ("resnet34", str(tmp_path / "own.pt"), "layer1.2.conv1.weight"),
        "shape": ("resnet18", str(tmp_path / "shape.pt"), "conv1.weight"),
        "file": ("resnet18", str(tmp_path / "gone.pt"), "gone.pt"),
    }[what]
    with pytest.raises(DefectlocError, match=word):
        published(name, weights)
