"""Randomised models, and the change of their maps."""

import numpy as np
import pytest
import torch

from defectloc.attribution.sanity import change, randomized
from tests.attribution.networks import tiny


def test_shuffling_keeps_the_numbers_and_not_their_places():
    model = tiny()
    other = randomized(model, 0)
    assert other.key != model.key
    for before, after in zip(model.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
    assert not torch.equal(model.network.fc.weight, other.network.fc.weight)
    assert torch.equal(other.network.fc.weight, randomized(model, 0).network.fc.weight)


def test_change_of_a_map():
    rng = np.random.default_rng(0)
    values = rng.random((20, 20))
    assert change(values, values) == pytest.approx(0)
    assert change(values, -(values**3)) == pytest.approx(0)
    assert change(values, rng.random((20, 20))) == pytest.approx(1, abs=0.15)
    assert change(values, np.zeros((20, 20))) is None
    assert change(values, np.full((20, 20), np.nan)) is None
