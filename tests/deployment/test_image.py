"""Resizing and upsampling inside the graph, against the project's own."""

import numpy as np
import pytest
import torch
from PIL import Image

from defectloc.data.resize import resize
from defectloc.deployment import image
from defectloc.deployment.graph import Graph
from defectloc.localization.maps import Grid, upsample
from tests.deployment.running import RUNTIMES, noise, results, tensor

SIZES = [(64, 64), (40, 30), (200, 301), (65, 700), (1, 5)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_resize_is_that_of_the_fit(runtime):
    graph = Graph()
    graph.add("Identity", image.resized(graph, "image", (64, 96)), name="resized")
    for size in SIZES:
        images = noise(2, *size)
        found = results(graph, {"resized": "FLOAT4"}, images, runtime)["resized"]
        wanted = torch.stack([resize(each, (64, 96)) for each in images]).numpy()
        # Of 255 grey levels.
        np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("grid", [Grid(8, 3.5), Grid(16, 7.5), Grid(32, 0), Grid(32, 14)])
def test_maps_are_upsampled_as_elsewhere(runtime, grid):
    graph, cells = Graph(), np.random.default_rng(0).normal(0, 5, (2, 4, 4)).astype(np.float32)
    cells[1] = 0.3
    pixels = graph.side("image", 1), graph.side("image", 2)
    graph.add("Identity", image.native(graph, tensor(graph, cells), pixels, (64, 96), grid), name="native")
    for size in SIZES:
        found = results(graph, {"native": "FLOAT3"}, noise(2, *size), runtime)["native"]
        for each, values in zip(found, cells, strict=True):
            np.testing.assert_allclose(each, upsample(values, size, (64, 96), grid), atol=1e-4)
        assert len(np.unique(found[1])) == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ignored_pixels_have_the_minimum(runtime):
    n_compared = 0
    mask = np.random.default_rng(0).random((40, 30)) > 0.7
    graph = Graph()
    brightness = graph.reduce("Mean", graph.cast("image", "FLOAT"), 3, keep=False)
    graph.add("Identity", image.without_ignored(graph, brightness, "image", mask), name="found")
    for size in SIZES:
        images = noise(2, *size)
        found = results(graph, {"found": "FLOAT3"}, images, runtime)["found"]
        ignored = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
        # Pillow adds up steps, and may so miss a pixel whose centre lies between two of the mask.
        rows, columns = ((2 * np.arange(n) + 1) * m % (2 * n) > 0 for n, m in zip(size, mask.shape, strict=True))
        clear = np.ix_(rows, columns)
        for each, values in zip(found, images.astype(np.float32).mean(3), strict=True):
            np.testing.assert_allclose(each[clear], np.where(ignored, values.min(), values)[clear], atol=1e-4)
            n_compared += each[clear].size
    assert n_compared > 90_000
