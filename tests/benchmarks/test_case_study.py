"""The reference loop trains what the case study trains."""

import torch
from PIL import Image

from defectloc.benchmarks.case_study import Loop, Network


def test_the_network_is_trained_from_the_eleventh_convolution_on(tmp_path):
    convolutions = [layer for layer in Network().features if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.weight.requires_grad for layer in convolutions] == [False] * 10 + [True] * 3
    assert Network()(torch.rand(2, 3, 64, 64)).shape == (2, 2)
    paths = []
    for index in range(12):
        paths.append(tmp_path / f"{index}.png")
        Image.new("RGB", (40, 40), (index * 20, 0, 0)).save(paths[-1])
    loop = Loop(paths, [index % 2 for index in range(12)], 32, "cpu")
    before = [parameter.clone() for parameter in loop._network.parameters()]
    loop.step()
    # The second batch has two images only; a step is one of ten.
    loop.step()
    loop.predict()
    changed = [not torch.equal(a, b) for a, b in zip(before, loop._network.parameters(), strict=True)]
    assert changed == [False] * 20 + [True] * 8
