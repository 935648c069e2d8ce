"""A network that is left as it was."""

import pytest
from torch import nn

from defectloc.attribution.network import undisturbed


def test_undisturbed_restores_modes_and_requires_grad_also_after_an_exception():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    network[0].weight.requires_grad_(False)
    network[1].eval()
    states = []

    def broken():
        with undisturbed(network):
            states.extend([network.training, network[0].training, *(p.requires_grad for p in network.parameters())])
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        broken()
    assert states == [False] * 6
    assert network.training
    assert network[0].training
    assert not network[1].training
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True, True, True]
