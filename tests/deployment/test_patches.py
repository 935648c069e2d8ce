"""Memory bank, patch head and novelty inside the graph, against their own classes."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from defectloc.deployment import patches
from defectloc.deployment.graph import Graph
from defectloc.localization.combination import Combination
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import Novelty, mean_patches
from defectloc.model.patch_head import PatchHead
from tests.deployment.running import RUNTIMES, noise, results, tensor

CHANNELS, MEMBERS, HIDDEN = (6, 3), 3, 8
# Two levels of one grid, and a coarser one that begins elsewhere.
LAYOUTS = {
    "equal": ([(8.0, 3.5), (8.0, 3.5)], [(5, 5), (5, 5)]),
    "coarser first": ([(16.0, 7.0), (8.0, 3.5)], [(3, 3), (5, 5)]),
}


@dataclass
class Small:
    """A bank, a head and a novelty of random numbers, and levels of two new images."""

    bank: MemoryBank
    head: PatchHead
    novelty: Novelty
    levels: list[np.ndarray]


def levels(n: int, shapes: list[tuple[int, int]], seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    both = zip(CHANNELS, shapes, strict=True)
    return [random.gamma(1, 2, (n, channels, *shape)).astype(np.float32) for channels, shape in both]


@pytest.fixture(params=LAYOUTS)
def small(request) -> Small:
    grids, shapes = LAYOUTS[request.param]
    known = levels(8, shapes, 0)
    bank = MemoryBank.fit(lambda: [known], 8, grids, 4, 2**20, 0)
    assert len(bank.vectors) % 64
    random = torch.Generator().manual_seed(0)

    def weights(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    head = PatchHead(
        {
            "hidden_weight": weights(MEMBERS, sum(CHANNELS), HIDDEN),
            "hidden_bias": weights(MEMBERS, 1, HIDDEN),
            "output_weight": weights(MEMBERS, HIDDEN, 1),
            "output_bias": weights(MEMBERS, 1, 1),
        }
    )
    means = mean_patches(known)
    new = levels(2, shapes, 1)
    # Beyond what the head clamps.
    new[0][0, 0, 0, 0] = 500
    return Small(bank, head, Novelty.fit(means, means, mean_patches(levels(3, shapes, 2))), new)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_distances_log_odds_and_their_sum(small, runtime):
    graph = Graph()
    inputs = [tensor(graph, each) for each in small.levels]
    vectors, shape = patches.standardized(graph, small.bank, inputs)
    # Several pieces, the last of them shorter.
    distances = patches.distances(graph, small.bank, vectors, shape, 64)
    log_odds = patches.log_odds(graph, small.head, vectors, shape, 7)
    combination = Combination(1.0, 0.5, 2.0, 3.0, "")
    both = patches.combined(graph, combination, log_odds, distances)
    for value, name in ((distances, "distances"), (log_odds, "log_odds"), (both, "both")):
        graph.add("Identity", value, name=name)
    found = results(graph, dict.fromkeys(("distances", "log_odds", "both"), "FLOAT3"), noise(2, 4, 4), runtime)
    wanted = small.bank.distances(small.levels)
    assert wanted.shape == (2, 5, 5)
    np.testing.assert_allclose(found["distances"], wanted, rtol=1e-4, atol=1e-4)
    expected = small.head.log_odds(small.bank.standardized(small.levels))
    np.testing.assert_allclose(found["log_odds"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["both"], combination.apply(expected, wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_novelty(small, runtime):
    graph = Graph()
    inputs = [tensor(graph, each) for each in small.levels]
    graph.add("Identity", patches.novelty(graph, small.novelty, inputs), name="novelty")
    found = results(graph, {"novelty": "FLOAT1"}, noise(2, 4, 4), runtime)["novelty"]
    np.testing.assert_allclose(found, small.novelty(small.levels), rtol=1e-4)
