"""The classifier: the map is the decision taken apart, levels come in one pass, the trunk never changes."""

import pytest
import torch

from defectloc.config import ModelConfig, TrainingConfig
from defectloc.errors import DefectlocError
from defectloc.model import weights
from defectloc.model.classifier import Classifier, class_activation_map
from defectloc.model.fit import DefectClassifier
from defectloc.model.levels import IMAGE, Level

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4"}


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
    map_ = class_activation_map(channels)
    assert channels.shape[1] == 2
    assert map_.dtype == torch.float32
    torch.testing.assert_close(channels.mean((2, 3)), logits, rtol=0, atol=0)
    torch.testing.assert_close(map_.mean((1, 2)), logits[:, 1] - logits[:, 0], rtol=1e-5, atol=1e-5)
    assert map_.std() > 0


def test_map_has_the_promised_stride(classifier):
    with torch.no_grad():
        channels = classifier.channels(classifier.features(photographs(1, 96)))
    assert channels.shape[2:] == (96 // classifier.grid[0], 96 // classifier.grid[0])


def test_gradients_flow_through_the_frozen_trunk(classifier):
    images = photographs(1).requires_grad_()
    classifier(images)[0, 1].backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in classifier.trunk.parameters())


def test_training_never_changes_the_trunk(classifier):
    """Its parameters and statistics, to the bit, while tail and head learn."""
    module = DefectClassifier(classifier, TrainingConfig(learning_rate=1e-2), [1.0, 3.0], seed=0, from_images=True)
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
    wanted = [IMAGE, *(Level(name) for name, _ in list(classifier.trunk.named_children())[-3:])]
    with torch.no_grad():
        found = classifier.levels(photographs(), wanted)
        last = classifier.features(photographs())
    assert list(found) == wanted
    torch.testing.assert_close(found[classifier.level], last, rtol=0, atol=0)


def test_pooled_levels_are_means_of_squares(classifier):
    level = Level(next(name for name, _ in classifier.trunk.named_children()))
    with torch.no_grad():
        found = classifier.levels(photographs(), [level, Level(level.stage, 2)])
    whole = found[level]
    expected = whole.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    torch.testing.assert_close(found[Level(level.stage, 2)], expected)


def test_grids_of_levels():
    vgg = Classifier("vgg16", "conv5_1", "oxford")
    grids = [vgg.grid_of(level) for level in (IMAGE, Level("conv3_3"), Level("conv3_3", 2), Level("conv4_3"))]
    assert grids == [(1, 0), (4, 1.5), (8, 3.5), (8, 3.5)]


@pytest.mark.parametrize("level", [Level("conv4_3"), Level("conv4_3", 2), Level("image", 2), Level("")])
def test_a_stage_that_is_not_frozen_is_refused(level):
    classifier = Classifier("vgg16", "conv4_1", "torchvision")
    calls = (lambda: classifier.levels(photographs(), [level]), lambda: classifier.grid_of(level))
    for call in (*calls, lambda: classifier.require([IMAGE, level])):
        with pytest.raises(DefectlocError, match=f"no stage '{level.stage}' .*conv3_3"):
            call()


def test_an_unknown_cut_is_refused():
    with pytest.raises(DefectlocError, match="choose one of conv1_1"):
        Classifier("vgg16", "conv6_1", "oxford")


def test_without_a_trunk_the_level_is_the_image():
    classifier = Classifier("vgg16", "conv1_1", "oxford").eval()
    assert classifier.level == IMAGE
    with torch.no_grad():
        torch.testing.assert_close(classifier.channels(photographs()).mean((2, 3)), classifier(photographs()))
