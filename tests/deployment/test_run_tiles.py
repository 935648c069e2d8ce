"""The tiles of the script that goes with an exported model: as the package cuts and joins them."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from defectloc.data import tiles
from defectloc.data.resize import resize
from defectloc.data.tiles import Tiling
from defectloc.deployment import run_tiles
from defectloc.deployment.graph import Graph, Value
from defectloc.model.levels import Level
from defectloc.model.tiled_levels import levels_of
from tests.deployment.running import noise

# One smaller than a tile, one where tiles are shifted, one a single pixel high.
SIZES = [(64, 64), (20, 30), (150, 203), (65, 300), (1, 90)]
TILINGS = [Tiling(64, 64, 0.25, 16), Tiling(96, 64, 0.0, 16), Tiling(40, 64, 0.5, 32), Tiling(33, 48, 0.1, 8)]


@pytest.mark.parametrize("tiling", TILINGS)
def test_corners_shares_and_reflection_are_those_of_the_package(tiling):
    for length in range(tiling.multiple, 500, tiling.multiple):
        corners = run_tiles.origins(tiling.to_json(), length)
        assert corners == tiling.origins(length)
        for stride in (8, tiling.multiple):
            wanted = tiles.shares(corners, tiling.side, length, stride)
            found = run_tiles.shares(corners, length, tiling.side, stride)
            for (own, to, weights), (other, onto, expected) in zip(found, wanted, strict=True):
                assert (own, to) == (other, onto)
                np.testing.assert_array_equal(weights, expected)
        image = np.arange(3 * length, dtype=float).reshape(1, 3, length)
        for corner in corners:
            there = run_tiles.reflected(corner, tiling.side, length)
            cut = tiles.cut(image, (0, corner), tiling.side)
            np.testing.assert_array_equal(image[0, 1, there], cut[0, 1])


@pytest.mark.parametrize("size", SIZES)
def test_photographs_are_resized_as_elsewhere(size):
    (image,) = noise(1, *size)
    for wanted in ((64, 96), (16, 16), size, (200, 8)):
        found = run_tiles.resize(image, wanted)
        assert found.dtype == np.float32
        # Of 255 grey levels.
        np.testing.assert_allclose(found.transpose(2, 0, 1), resize(image, wanted).numpy(), atol=1e-3)


@pytest.mark.parametrize("tiling", TILINGS[:3])
def test_levels_are_joined_as_in_the_package(tiling):
    """A graph of two levels, means of 8 and of 16 pixels."""
    onnxruntime = pytest.importorskip("onnxruntime")
    graph, side, names = Graph(), tiling.side, ["level0", "level1"]
    for name, pool in zip(names, (8, 16), strict=True):
        graph.add("AveragePool", "tile", name=name, kernel_shape=[pool, pool], strides=[pool, pool])
    taken = Value("tile", "FLOAT", ("tiles", 3, side, side))
    given = [Value(name, "FLOAT", ("tiles", 3, side // n, side // n)) for name, n in zip(names, (8, 16), strict=True)]
    content = graph.model([taken], given, {}).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def trunk(images, levels):
        batch = torch.stack(list(images))
        return {level: F.avg_pool2d(batch, level.pool).numpy() for level in levels}

    levels = [Level("image", 8), Level("image", 16)]
    for size in SIZES:
        (image,) = noise(1, *size)
        found = run_tiles.joined_levels({"tiling": tiling.to_json(), "levels": names}, session, image)
        assert list(found) == names
        wanted = levels_of(image, tiling, trunk, levels, 3)
        for name, level in zip(names, levels, strict=True):
            np.testing.assert_allclose(found[name], wanted[level], atol=1e-3)


def test_it_imports_nothing_but_what_it_says():
    names = set()
    for node in ast.walk(ast.parse(Path(run_tiles.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime"}
