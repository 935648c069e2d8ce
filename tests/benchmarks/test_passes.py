"""Images through a frozen trunk are counted, wherever the network was made."""

import pytest
import torch
from torch.nn.modules import module as hooks

from defectloc.benchmarks.passes import counted_passes
from defectloc.model.classifier import Classifier


@pytest.mark.parametrize(
    ("backbone", "cut"), [("vgg16", "conv5_1"), ("resnet50", "layer4"), ("densenet121", "denseblock4")]
)
def test_each_image_counts_once(backbone, cut):
    with counted_passes() as passes, torch.inference_mode():
        classifier = Classifier(backbone, cut, "torchvision").eval()
        features = classifier.features(torch.zeros(3, 3, 32, 32))
        classifier.channels(features)
    assert passes.images == 3


def test_nothing_is_counted_afterwards_or_where_nothing_is_frozen():
    with counted_passes() as passes, torch.inference_mode():
        Classifier("vgg16", "conv1_1", "oxford")(torch.zeros(2, 3, 32, 32))
    Classifier("vgg16", "conv5_1", "oxford").features(torch.zeros(2, 3, 32, 32))
    assert passes.images == 0
    assert not hooks._global_forward_pre_hooks


def test_the_hook_goes_after_an_error():
    with pytest.raises(RuntimeError), counted_passes():
        raise RuntimeError
    assert not hooks._global_forward_pre_hooks
