"""Maps refined inside the graph, against `localization/guided.py`."""

import numpy as np
import pytest

from defectloc.deployment import guided, image
from defectloc.deployment.graph import Graph
from defectloc.localization.guided import guide_of, refined
from defectloc.localization.maps import Grid
from tests.deployment.running import RUNTIMES, noise, results, tensor


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("grid", [Grid(8, 3.5), Grid(16, 7.5), Grid(32, 0)])
@pytest.mark.parametrize("darkest", [0, 120])
def test_maps_are_refined_as_elsewhere(runtime, grid, darkest):
    graph, cells = Graph(), np.random.default_rng(0).normal(0, 5, (2, 4, 6)).astype(np.float32)
    cells[1] = 0.3
    seen = image.resized(graph, "image", (64, 96))
    graph.add("Identity", guided.refined(graph, tensor(graph, cells), seen, (64, 96), grid), name="refined")
    for size in ((64, 96), (150, 70)):
        # Smooth photographs too, whose colours vary together.
        images = np.maximum(noise(2, *size), darkest)
        found = results(graph, {"refined": "FLOAT3"}, images, runtime)["refined"]
        for each, values, photograph in zip(found, cells, images, strict=True):
            wanted = refined(values, guide_of(photograph, (64, 96)), grid)
            np.testing.assert_allclose(each, wanted, atol=1e-3)
        assert len(np.unique(found[1])) == 1
