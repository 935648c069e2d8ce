"""Levels by name, and those that follow from another one without arithmetic."""

import numpy as np
import pytest
import torch
from torch import nn

from defectloc.errors import DefectlocError
from defectloc.model.levels import IMAGE, Level, derivable


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("conv4_3", Level("conv4_3")),
        ("conv3_3.pool2", Level("conv3_3", 2)),
        ("pool4", Level("pool4")),
        ("image", IMAGE),
    ],
)
def test_a_level_is_read_as_it_is_written(text, level):
    assert Level.parse(text) == level
    assert str(level) == text


def test_means_of_one_cell_are_the_stage_itself():
    assert Level.parse("conv4_3.pool1") == Level("conv4_3")


@pytest.mark.parametrize("text", ["conv4_3.pool", "conv4_3.pool0", "conv4_3.poolx", "conv4_3.pool-2", "conv4_3.pool²"])
def test_a_level_without_a_number_of_cells_is_refused(text):
    with pytest.raises(DefectlocError, match=r"such as \.pool2"):
        Level.parse(text)


def test_pools_and_activations_are_derivable_and_convolutions_are_not():
    network = nn.Module()
    network.trunk = nn.Sequential()
    for name, stage in (("conv", nn.Conv2d(2, 2, 1)), ("relu", nn.ReLU()), ("pool", nn.MaxPool2d(2))):
        network.trunk.add_module(name, stage)
    found = derivable(network)
    assert {name: source for name, (source, _) in found.items()} == {"relu": "conv", "pool": "relu"}
    values = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)
    expected = values.reshape(1, 2, 2, 2, 2, 2).max((3, 5))
    np.testing.assert_array_equal(found["pool"][1](values), expected)
    np.testing.assert_array_equal(found["relu"][1](values), torch.relu(torch.from_numpy(values)).numpy())
