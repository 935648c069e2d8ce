"""Class activation maps, from images and from stored features."""

import numpy as np
import pytest
import torch

from defectloc.model.classifier import Classifier
from defectloc.model.predict import class_maps_of_features, class_maps_of_images
from defectloc.model.trunk import Trunk

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier("resnet50", "layer4", "torchvision").eval()


def test_the_mean_of_a_map_is_the_log_odds(classifier):
    maps = class_maps_of_images(classifier, IMAGES)
    assert maps.dtype == np.float32
    with torch.inference_mode():
        logits = classifier(IMAGES)
    np.testing.assert_allclose(maps.mean((1, 2)), logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_maps_of_images_are_those_of_the_trunks_output(classifier, precision):
    """In the precision of the trunk; tail and head compute in float32 in both cases."""
    features = Trunk(classifier, "cpu", precision)(list(IMAGES), [classifier.level])[classifier.level]
    expected = class_maps_of_features(classifier, features)
    found = class_maps_of_images(classifier, IMAGES, precision)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if precision == "bfloat16":
        assert np.abs(class_maps_of_images(classifier, IMAGES) - expected).max() > 1e-4


def test_arrays_of_any_precision_are_taken(classifier):
    features = np.random.default_rng(0).normal(size=(2, 1024, 2, 2)).astype(np.float16)
    maps = class_maps_of_features(classifier, features)
    np.testing.assert_array_equal(maps, class_maps_of_features(classifier, torch.from_numpy(features).float()))


def test_features_of_three_channels_are_features():
    """Not images: what the inputs are is never guessed from their shape."""
    classifier = Classifier("resnet50", "layer4", "torchvision")
    classifier.tail, classifier.head = torch.nn.Sequential(), torch.nn.Conv2d(3, 2, 1)
    features = torch.rand(1, 3, 4, 4)
    expected = torch.diff(classifier.head(features), dim=1)[:, 0].detach()
    np.testing.assert_allclose(class_maps_of_features(classifier, features), expected, atol=1e-6)
