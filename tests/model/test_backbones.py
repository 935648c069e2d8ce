"""Backbones: the grid is where the cells' fields of view have their centres, every cut gives the same network."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from defectloc.config import ModelConfig
from defectloc.errors import DefectlocError
from defectloc.model import backbones, weights
from defectloc.model.classifier import Classifier

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4", "efficientnet_lite0": "blocks5"}
# Written down from the papers' layers: (stride, centre of cell 0) in pixels of the input.
GRIDS = {"vgg16": (16, 7.5), "resnet50": (32, 0), "densenet121": (32, 14)}


def photographs(n: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize("backbone", GRIDS)
def test_grid_is_where_the_cells_have_their_centres(backbone):
    """With equal positive weights the influence of the input on a cell is symmetric about the cell's centre."""
    net = nn.Sequential(*backbones.stages(backbone).values()).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.kernel_size in ((3, 3), (5, 5)) and module.stride == (1, 1):
                # Symmetric in any case; without its neighbours a field of view of 2,000 px shrinks to a small one.
                nn.init.zeros_(module.weight)
                middle = module.kernel_size[0] // 2
                nn.init.constant_(module.weight[:, :, middle, middle], module.groups / module.in_channels)
        elif isinstance(module, nn.MaxPool2d):
            # The gradient of a maximum goes to one pixel only; a mean has the same window.
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
            module.forward = mean.forward  # type: ignore[method-assign]
    # Too dark for an activation that ends at 6.
    images = torch.full((1, 3, 256, 256), 1e-3, requires_grad=True)
    cells = net(images)
    at = cells.shape[2] // 2
    cells[0, :, at, at].sum().backward()
    assert images.grad is not None
    influence = images.grad[0].abs().sum((0, 1)).double()
    assert influence[0] == influence[-1] == 0
    centre = float((influence * torch.arange(256)).sum() / influence.sum())
    stride, offset = backbones.cells(backbones.stages(backbone))
    assert (stride, offset) == GRIDS[backbone]
    assert centre == pytest.approx(offset + stride * at, abs=0.01)


def test_cells_of_tensorflows_padding_part_the_image():
    """Their windows have their middles at 31 + 32 i; where trained ones look: `test_efficientnet_lite.py`."""
    assert backbones.cells(backbones.stages("efficientnet_lite0")) == (32, 15.5)


@pytest.mark.parametrize("backbone", CUTS)
def test_no_activation_in_place(backbone):
    chain = backbones.stages(backbone)
    assert not [m for stage in chain.values() for m in stage.modules() if getattr(m, "inplace", False)]


@pytest.mark.parametrize("name", CUTS)
def test_every_cut_gives_the_same_network(name):
    """Where the trunk ends decides what is trained, never what is computed."""
    state = weights.state_of(weights.build(ModelConfig(name, "none", "auto", "head"), seed=0)[0])
    logits = []
    for cut in (backbones.cuts(backbones.stages(name))[0], CUTS[name], "head"):
        one = Classifier(name, cut, "torchvision").eval()
        weights.load(one, state, "here")
        with torch.no_grad():
            logits.append(one(photographs(1, 32)))
    for each in logits[1:]:
        torch.testing.assert_close(each, logits[0], rtol=1e-4, atol=1e-5)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(DefectlocError, match="choose one of vgg16"):
        backbones.stages("vgg19")


def test_preprocessing_as_torchvision_has_it():
    """Their transform ends in a division by the standard deviation on the 0..1 scale, ours is on 0..255."""
    pixels = np.array([[[0, 50, 100]], [[150, 200, 255]]], np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    for kind, theirs in (
        ("oxford", models.VGG16_Weights.IMAGENET1K_FEATURES.transforms()),
        ("torchvision", models.ResNet50_Weights.IMAGENET1K_V1.transforms()),
    ):
        mean, std = torch.tensor(theirs.mean).view(3, 1, 1), torch.tensor(theirs.std).view(3, 1, 1)
        expected = (image / 255 - mean) / std
        torch.testing.assert_close(
            backbones.Normalize(*backbones.PREPROCESSING[kind])(image.float()), expected, rtol=1e-4, atol=1e-3
        )
