"""The trunk as a function of images: one place for frozen features, in one precision."""

import numpy as np
import pytest
import torch

from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier
from defectloc.model.levels import IMAGE, Level
from defectloc.model.trunk import Trunk
from defectloc.model.winograd import WinogradConv2d

LEVELS = [Level("layer1", 2), Level("layer2")]


def photographs(n: int = 2) -> list[torch.Tensor]:
    return list(torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier("resnet50", "layer3", "torchvision").train()


def test_levels_are_those_of_the_classifier(classifier):
    found = Trunk(classifier, "cpu", "float32")(photographs(), LEVELS)
    with torch.inference_mode():
        expected = classifier.levels(torch.stack(photographs()), LEVELS)
    assert list(found) == LEVELS
    for level, values in found.items():
        assert values.dtype == np.float32
        wanted = expected[level].numpy()
        np.testing.assert_allclose(values, wanted, rtol=0, atol=5e-6 * np.abs(wanted).max())


@pytest.mark.parametrize(("precision", "n"), [("float32", 3), ("bfloat16", 0)])
def test_wide_convolutions_are_winograds_in_single_precision(classifier, precision, n):
    trunk = Trunk(classifier, "cpu", precision)
    assert sum(isinstance(module, WinogradConv2d) for module in trunk.stages.modules()) == n
    assert not any(isinstance(module, WinogradConv2d) for module in classifier.modules())


def test_construction_puts_the_model_into_evaluation_mode(classifier):
    classifier.train()
    Trunk(classifier, "cpu", "float32")
    assert not any(module.training for module in classifier.modules())


def test_bfloat16_is_close_to_float32_and_another(classifier):
    exact, rounded = (Trunk(classifier, "cpu", p)(photographs(), LEVELS[1:]) for p in ("float32", "bfloat16"))
    gaps = np.abs(exact[LEVELS[1]] - rounded[LEVELS[1]])
    assert 0 < gaps.max() < 0.05 * np.abs(exact[LEVELS[1]]).max()


def test_levels_by_name(classifier):
    trunk = Trunk(classifier, "cpu", "float32")
    found = trunk.by_name(photographs(), ["layer1.pool2", "image"])
    assert list(found) == ["image", "layer1.pool2"]
    np.testing.assert_array_equal(found["image"], torch.stack(photographs()).numpy())
    np.testing.assert_array_equal(found["layer1.pool2"], trunk(photographs(), [LEVELS[0], IMAGE])[LEVELS[0]])


def test_a_stage_that_is_not_frozen_is_refused(classifier):
    with pytest.raises(DefectlocError, match="no stage 'layer3'"):
        Trunk(classifier, "cpu", "float32")(photographs(), [Level("layer3")])
