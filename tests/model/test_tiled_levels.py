"""The levels of photographs in tiles."""

import numpy as np
import pytest
import torch

from defectloc.config import ModelConfig, TrainSettings
from defectloc.data.resize import resize
from defectloc.data.tiles import Tiling
from defectloc.model import weights
from defectloc.model.levels import Level
from defectloc.model.tiled_levels import levels_of, tiling_of
from defectloc.model.trunk import Trunk

LEVELS = [Level("conv3_3", pool=2), Level("conv4_3")]


def test_features_of_tiles_are_those_of_the_whole_photograph(narrow):
    classifier, _, _ = weights.build(ModelConfig(weights="none"), 0)
    trunk = Trunk(classifier, "cpu", "float32")
    image = np.random.default_rng(0).integers(0, 256, (400, 590, 3), dtype=np.uint8)
    # A quarter of the overlap is 48 px, and conv4_3 looks 46 px far.
    tiling = Tiling(384, 384, 0.5, 16)
    assert len(tiling.corners((400, 590))) == 12
    resized = resize(image, tiling.input_size((400, 590)))
    margin, far = tiling.margin, 6
    reflected = torch.from_numpy(np.pad(resized.numpy(), [(0, 0), (margin, margin), (margin, margin)], "symmetric"))
    found = levels_of(image, tiling, trunk, LEVELS, 2)
    plain, around = trunk([resized], LEVELS), trunk([reflected], LEVELS)
    for level in LEVELS:
        cells = margin // 8
        within = around[level][:, :, cells:-cells, cells:-cells]
        scale = np.abs(within).max()
        assert found[level].shape == plain[level].shape
        assert found[level] / scale == pytest.approx(within / scale, abs=1e-5)
        # Where the zeros beyond the photograph's border are out of reach, as without a margin.
        inner = (..., slice(far, -far), slice(far, -far))
        assert found[level][inner] / scale == pytest.approx(plain[level][inner] / scale, abs=1e-5)


def test_the_levels_of_one_photograph_only_are_given_at_once(narrow):
    classifier, _, _ = weights.build(ModelConfig(weights="none"), 0)
    trunk = Trunk(classifier, "cpu", "float32")
    image = np.zeros((64, 200, 3), np.uint8)
    found = levels_of(image, Tiling(64, 64, 0.25, 8), trunk, LEVELS, 3)
    assert all(values.shape[0] == 1 for values in found.values())
    assert torch.from_numpy(found[LEVELS[1]]).shape[2:] == (8, 25)


@pytest.mark.parametrize("more", [[(200, 600)], [(600, 200)]])
def test_auto_goes_by_the_medians_of_the_shorter_and_of_the_longer_sides(narrow, capsys, more):
    """As many photographs lie as stand: their median height and width are those of no photograph."""
    settings = TrainSettings()
    settings.data.tiles, settings.data.image_size = "auto", 64
    classifier, _, _ = weights.build(ModelConfig(weights="none"), 0)
    sizes = [*[(200, 600), (600, 200)] * 5, *more]
    tiling = tiling_of(settings, sizes, classifier, LEVELS, Trunk(classifier, "cpu", "float32"))
    assert tiling is not None
    assert "photographs of 600 x 200 px (median sides)" in capsys.readouterr().err
