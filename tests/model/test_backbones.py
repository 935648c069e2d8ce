"""Backbones: the map is the decision taken apart, the grid lies where cells look, the trunk never moves."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from defectloc.config import ModelConfig, TrainingConfig
from defectloc.errors import DefectlocError
from defectloc.model import backbones, weights
from defectloc.model.classifier import Classifier, class_activation_map
from defectloc.model.fit import DefectClassifier

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4"}
# Written down from the papers' layers: (stride, centre of cell 0) in pixels of the input.
GRIDS = {"vgg16": (16, 7.5), "resnet50": (32, 0), "densenet121": (32, 14)}


@pytest.fixture(scope="module", params=CUTS)
def classifier(request) -> Classifier:
    return weights.build(ModelConfig(request.param, "none", "auto", CUTS[request.param]), seed=0)[0]


def photographs(n: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255


def test_mean_of_the_map_is_the_decision(classifier):
    with torch.no_grad():
        images = photographs(2, 64)
        channels = classifier.channels(classifier.features(images))
        logits = classifier(images)
    heat = class_activation_map(channels)
    assert channels.shape[1] == 2
    assert heat.dtype == torch.float32
    torch.testing.assert_close(channels.mean((2, 3)), logits, rtol=0, atol=0)
    torch.testing.assert_close(heat.mean((1, 2)), logits[:, 1] - logits[:, 0], rtol=1e-5, atol=1e-5)
    assert heat.std() > 0


def test_map_has_the_promised_stride(classifier):
    with torch.no_grad():
        channels = classifier.channels(classifier.features(photographs(1, 96)))
    assert channels.shape[2:] == (96 // classifier.grid[0], 96 // classifier.grid[0])


def test_grid_is_where_the_cells_look(classifier):
    """With equal positive weights the influence of the input on a cell is symmetric about the cell's centre."""
    net = nn.Sequential(*backbones.stages(classifier.backbone).values()).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.kernel_size == (3, 3) and module.stride == (1, 1):
                # Symmetric in any case; without its neighbours a field of vision of 2,000 px shrinks to a small one.
                nn.init.zeros_(module.weight)
                nn.init.constant_(module.weight[:, :, 1, 1], 1 / module.in_channels)
        elif isinstance(module, nn.MaxPool2d):
            # The gradient of a maximum goes to one pixel only; a mean has the same window.
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
            module.forward = mean.forward  # type: ignore[method-assign]
    images = torch.ones(1, 3, 256, 256, requires_grad=True)
    cells = net(images)
    at = cells.shape[2] // 2
    cells[0, :, at, at].sum().backward()
    assert images.grad is not None
    influence = images.grad[0].abs().sum((0, 1)).double()
    assert influence[0] == influence[-1] == 0
    centre = float((influence * torch.arange(256)).sum() / influence.sum())
    stride, offset = classifier.grid
    assert centre == pytest.approx(offset + stride * at, abs=0.01)


def test_grid_as_documented(classifier):
    assert classifier.grid == GRIDS[classifier.backbone]


def test_no_activation_in_place(classifier):
    assert not [m for m in classifier.modules() if getattr(m, "inplace", False)]


def test_gradients_flow_through_the_frozen_trunk(classifier):
    images = photographs(1).requires_grad_()
    classifier(images)[0, 1].backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in classifier.trunk.parameters())


def test_trunk_stays_as_it_is_in_training(classifier):
    """Its parameters and statistics, to the bit, while tail and head learn."""
    module = DefectClassifier(classifier, TrainingConfig(learning_rate=1e-2), [1.0, 3.0], seed=0)
    module.train()
    assert not any(m.training for m in classifier.trunk.modules())
    assert classifier.tail.training
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    optimizer = module.configure_optimizers()
    loss = module.loss(module.logits(photographs(4)), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    optimizer.step()
    after = classifier.state_dict()
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    classifier.load_state_dict(before)
    classifier.eval()
    assert not [key for key in moved if key.startswith("trunk.")]
    learnt = {key for key, p in classifier.named_parameters() if p.requires_grad and p.ndim > 1}
    assert learnt <= moved


def test_levels_in_one_pass(classifier):
    names = [name for name, _ in classifier.trunk.named_children()][-3:]
    with torch.no_grad():
        found = classifier.levels(photographs(), ["image", *names])
        last = classifier.features(photographs())
    assert list(found) == ["image", *names]
    torch.testing.assert_close(found[classifier.level], last, rtol=0, atol=0)


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


def test_unknown_names_are_refused():
    with pytest.raises(DefectlocError, match="choose vgg16"):
        backbones.stages("vgg19")
    with pytest.raises(DefectlocError, match="choose one of conv1_1"):
        Classifier("vgg16", "conv6_1", "oxford")


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
