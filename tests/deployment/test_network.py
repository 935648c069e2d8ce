"""Every backbone's layers as nodes, against torch."""

import numpy as np
import pytest
import torch
from torch import nn

from defectloc.deployment.graph import Graph
from defectloc.deployment.network import class_map, layers, trunk_levels
from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier
from defectloc.model.levels import Level
from defectloc.model.predict import class_maps_of_images
from tests.deployment.running import RUNTIMES, noise, results

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4", "efficientnet_lite0": "blocks5"}


def random_network(backbone: str, cut: str) -> Classifier:
    """Weights and statistics of every layer random, so that none may be left out."""
    torch.manual_seed(0)
    classifier = Classifier(backbone, cut, "oxford" if backbone == "vgg16" else "torchvision")
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return classifier.eval()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("backbone", CUTS)
def test_levels_and_class_map_are_those_of_torch(backbone, runtime):
    classifier = random_network(backbone, CUTS[backbone])
    levels = list(dict.fromkeys([classifier.level, *classifier.bank_levels]))
    images = noise(2, 64, 64)
    graph = Graph()
    batch = graph.add("Transpose", graph.cast("image", "FLOAT"), perm=[0, 3, 1, 2])
    given = trunk_levels(graph, classifier, batch, levels)
    graph.add("Identity", class_map(graph, classifier, given[classifier.level]), name="cam")
    for number, level in enumerate(levels):
        graph.add("Identity", given[level], name=f"level{number}")
    found = results(graph, {"cam": "FLOAT3"} | {f"level{n}": "FLOAT4" for n in range(len(levels))}, images, runtime)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        wanted = classifier.levels(pixels, levels)
    for number, level in enumerate(levels):
        expected = wanted[level].numpy()
        np.testing.assert_allclose(found[f"level{number}"], expected, atol=1e-4 * np.abs(expected).max())
    cam = class_maps_of_images(classifier, pixels)
    np.testing.assert_allclose(found["cam"], cam, atol=1e-4 * np.abs(cam).max())


def test_a_network_that_is_trained_from_its_first_layer_on():
    classifier = random_network("vgg16", "conv1_1")
    images = noise(1, 64, 64)
    graph = Graph()
    batch = graph.add("Transpose", graph.cast("image", "FLOAT"), perm=[0, 3, 1, 2])
    graph.add("Identity", class_map(graph, classifier, batch), name="cam")
    found = results(graph, {"cam": "FLOAT3"}, images, "onnxruntime")["cam"]
    cam = class_maps_of_images(classifier, torch.from_numpy(images).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(found, cam, atol=1e-4 * np.abs(cam).max())


def test_what_cannot_be_exported_is_named():
    graph = Graph()
    with pytest.raises(DefectlocError, match="kind Dropout2d"):
        layers(graph, nn.Sequential(nn.ReLU(), nn.Dropout2d()), "image")
    with pytest.raises(DefectlocError, match="kind MaxPool2d"):
        layers(graph, nn.MaxPool2d(2, ceil_mode=True), "image")
    with pytest.raises(DefectlocError, match="no stage 'layer9'"):
        trunk_levels(graph, random_network("vgg16", "head"), "image", [Level("layer9")])
