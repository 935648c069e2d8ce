"""Photographs unlike those of a memory bank."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from defectloc.errors import DefectlocError
from defectloc.model.novelty import Novelty, mean_patches

C = 6
BANK = SimpleNamespace(mean=torch.arange(C).float(), sd=torch.full((C,), 2.0))


def images(n: int, seed: int, offset: float = 0.0) -> np.ndarray:
    """Levels `(n, C, 5, 5)` of photographs whose means vary by 0.2 around the bank's."""
    random = np.random.default_rng(seed)
    means = np.arange(C) + offset + 0.2 * random.normal(size=(n, C))
    return (means[:, :, None, None] + 0.1 * random.normal(size=(n, C, 5, 5))).astype(np.float32)


def distances(n: int, seed: int, level: float = 1.0) -> np.ndarray:
    return (level * np.random.default_rng(seed).uniform(0.8, 1.2, (n, 5, 5))).astype(np.float32)


@pytest.fixture
def novelty() -> Novelty:
    return Novelty.fit(BANK, mean_patches([images(60, 0)]), mean_patches([images(30, 1)]), distances(30, 1))


def test_known_photographs_and_local_defects_are_like_the_others(novelty):
    usual = novelty([images(50, 2)], distances(50, 2))
    assert usual.shape == (50,)
    assert usual.max() < 1
    defect = distances(50, 3)
    defect[:, :3, :3] *= 30
    assert novelty([images(50, 3)], defect).max() < 1


def test_what_is_strange_everywhere_is_unlike(novelty):
    assert novelty([images(20, 4)], distances(20, 4, 8.0)).min() > 1


def test_what_is_shifted_is_unlike_though_each_patch_is_known(novelty):
    assert novelty([images(20, 5, offset=3.0)], distances(20, 5)).min() > 1


def test_written_and_read(novelty, tmp_path):
    novelty.save(tmp_path / "novelty.npz")
    again = Novelty.load(tmp_path / "novelty.npz")
    levels = [images(3, 6)]
    np.testing.assert_array_equal(again(levels, distances(3, 6)), novelty(levels, distances(3, 6)))
    (tmp_path / "novelty.npz").write_text("")
    with pytest.raises(DefectlocError, match="cannot be read"):
        Novelty.load(tmp_path / "novelty.npz")


def test_one_known_photograph_is_enough_for_a_limit():
    novelty = Novelty.fit(BANK, mean_patches([images(5, 0)]), mean_patches([images(1, 1)]), distances(1, 1))
    assert np.isfinite(novelty.limits).all()
    assert (novelty.limits > 0).all()


def test_a_constant_channel_does_not_decide():
    good = mean_patches([images(20, 0)])
    good[:, 0] = 0
    novelty = Novelty.fit(BANK, good, good, distances(20, 1))
    other = images(20, 0)
    other[:, 0] = 0.01
    assert novelty([other], distances(20, 1)).max() < 1
