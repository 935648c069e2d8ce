"""Photographs unlike those of the training split."""

import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.model import novelty as module
from defectloc.model.novelty import Novelty, mean_patches

C = 40


def images(n: int, seed: int, part: int = 0, light: float = 1.0) -> np.ndarray:
    """Levels `(n, C, 6, 6)` of a part with channels of its own, which vary by a tenth from photograph to photograph."""
    channels = np.random.default_rng(1000 + part).lognormal(0, 1, C)
    random = np.random.default_rng(seed)
    means = light * channels * random.lognormal(0, 0.1, (n, C))
    return (means[:, :, None, None] * random.lognormal(0, 0.2, (n, C, 6, 6))).astype(np.float32)


def with_defects(levels: np.ndarray) -> np.ndarray:
    """A ninth of each image of which a few channels answer ten times as strongly."""
    found = levels.copy()
    found[:, :3, :2, :2] *= 10
    return found


@pytest.fixture
def novelty() -> Novelty:
    good, defective = mean_patches([images(80, 0)]), mean_patches([with_defects(images(20, 1))])
    return Novelty.fit(good, np.concatenate([good, defective]), mean_patches([images(30, 2)]))


def test_photographs_of_the_same_part_are_like_the_others(novelty):
    found = novelty([images(100, 3)])
    assert found.shape == (100,)
    assert found.max() < 1


def test_defects_are_local(novelty):
    assert novelty([with_defects(images(100, 4))]).max() < 1


@pytest.mark.parametrize(("part", "light"), [(1, 1.0), (0, 0.0), (0, 0.3), (0, 3.0)])
def test_another_part_and_another_light_are_unlike(novelty, part, light):
    assert novelty([images(50, 5, part, light)]).min() > 1


def test_levels_lie_side_by_side():
    fine, coarse = images(2, 6), images(2, 7)[:, :5, :3, :3]
    means = mean_patches([fine, coarse])
    assert means.shape == (2, C + 5)
    np.testing.assert_allclose(means[1, C], coarse[1, 0].mean(), rtol=1e-6)


def test_written_and_read(novelty, tmp_path):
    novelty.save(tmp_path / "novelty.npz")
    np.testing.assert_array_equal(Novelty.load(tmp_path / "novelty.npz")([images(3, 8)]), novelty([images(3, 8)]))
    (tmp_path / "novelty.npz").write_text("")
    with pytest.raises(DefectlocError, match="cannot be read"):
        Novelty.load(tmp_path / "novelty.npz")


def test_a_silent_channel_counts_for_no_more_than_others_may_and_negative_ones_are_told_apart():
    good = mean_patches([images(40, 0)])
    good[:, 0] = 0
    good[:, 1] *= -1
    novelty = Novelty.fit(good[:30], good[:30], good[30:])
    other = good[30:].copy()
    other[:, 0] = 1
    bound = np.sqrt((novelty.of_means(good[30:]) * novelty.limit) ** 2 + module.MOST_SDS**2 / C) / novelty.limit
    assert (novelty.of_means(other) <= bound + 1e-6).all()
    other[:, 1:] *= -1
    assert novelty.of_means(other).min() > 1


def test_many_training_photographs_are_thinned(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 10)
    means = mean_patches([images(100, 0)])
    assert len(Novelty.fit(means, means, means).known) == 10
    assert len(Novelty.fit(means[:4], means[:4], means).known) == 4


def test_one_photograph_alone():
    means = mean_patches([images(1, 0)])
    novelty = Novelty.fit(means, means, means)
    assert np.isfinite(novelty.of_means(mean_patches([images(2, 1)]))).all()


def test_no_validation_image_is_unlike():
    rng = np.random.default_rng(0)
    # A few photographs far from the others.
    means = np.exp(rng.normal(size=(60, 32)) * rng.choice([0.1, 1.0], (60, 1), p=[0.8, 0.2]))
    novelty = Novelty.fit(means[:40], means[:40], means[40:])
    assert novelty.of_means(means[40:]).max() < 1
