"""Classifiers as torchvision publishes them."""

import pytest
import torch
from torchvision import models

from defectloc.errors import DefectlocError
from defectloc.model.published import published

SIZE = 64


def photographs() -> torch.Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 255


def test_activations_are_not_in_place():
    network, classes, size = published("mobilenet_v2", "none")
    assert (len(classes), size) == (1000, 224)
    assert not [module for module in network.modules() if getattr(module, "inplace", False)]


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
