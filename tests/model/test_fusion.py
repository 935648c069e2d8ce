"""Memory bank and labels together, on made-up features: good patches are noise, defects a direction in it."""

import numpy as np
import pytest
import torch

from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier
from defectloc.model.fusion import Fusion, Scale
from defectloc.model.memory_bank import MemoryBank

N, SIZE, CHANNELS, SHIFT = 12, 6, 16, 8.0


def level(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, CHANNELS, SIZE, SIZE)).astype(np.float32)


def defective(n: int, seed: int) -> np.ndarray:
    """Give levels with a defect of 2 x 2 cells at row 2, column 3."""
    values = level(n, seed)
    values[:, 0, 2:4, 3:5] += SHIFT
    return values


def inputs(n: int, seed: int) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(size=(n, 512, 3, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def bank() -> MemoryBank:
    return MemoryBank.fit(lambda: [[level(N, 0)]], N, [(8.0, 3.5)], 32, 2**20, seed=0)


def fit(bank: MemoryBank) -> Fusion:
    distances = bank.distances([level(N, 7)])
    scale = Scale(float(distances.mean()), float(distances.std()))
    bad = [defective(N, 1)]
    return Fusion.fit(
        bank,
        scale,
        scale.anomaly(distances),
        [[level(N, 0)]],
        [(bad, bank.distances(bad))],
        [inputs(4, 0)],
        N,
        seed=0,
    )


@pytest.fixture(scope="module")
def fusion(bank) -> Fusion:
    return fit(bank)


def without_examples(fusion: Fusion) -> Fusion:
    return Fusion(fusion.bank, fusion.scale, None, fusion.normal_features)


def test_the_map_is_high_where_a_patch_is_anomalous_and_like_a_labelled_defect(bank, fusion):
    levels = [defective(1, 3)]
    distances = bank.distances(levels)
    fused = fusion.fuse(levels, distances)
    assert fused.min() >= 0
    assert (fused <= fusion.anomaly(distances).clip(0) + 1e-6).all()
    row, column = np.unravel_index(fused[0].argmax(), (SIZE, SIZE))
    assert row in (1, 2, 3, 4)
    assert column in (2, 3, 4, 5)


def test_distances_are_never_searched_again(bank, monkeypatch):
    """Neither by the fit nor by the map: they are handed on."""
    held_out, levels = bank.distances([level(N, 7)]), [defective(N, 1)]
    distances = bank.distances(levels)
    monkeypatch.setattr(MemoryBank, "distances", None)
    scale = Scale(float(held_out.mean()), float(held_out.std()))
    good, bad = [[level(N, 0)]], [(levels, distances)]
    fusion = Fusion.fit(bank, scale, scale.anomaly(held_out), good, bad, [inputs(4, 0)], N, seed=0)
    assert fusion.patch_classifier is not None
    assert fusion.fuse(levels, distances).shape == (N, SIZE, SIZE)


def test_anomaly_is_in_standard_deviations(fusion):
    mean, sd = fusion.scale
    np.testing.assert_allclose(fusion.anomaly(np.array([[[mean, mean + 2 * sd]]])), [[[0, 2]]], atol=1e-6)


def test_without_examples_the_probability_is_one_half(bank, fusion):
    levels = [defective(2, 3)]
    distances = bank.distances(levels)
    fused = without_examples(fusion).fuse(levels, distances)
    np.testing.assert_allclose(fused, fusion.anomaly(distances).clip(0) / 2, rtol=1e-6)


@pytest.mark.parametrize("examples", [True, False])
def test_read_again_it_gives_the_same(bank, fusion, tmp_path, examples):
    first = fusion if examples else without_examples(fusion)
    first.save(tmp_path / "fusion.npz")
    again = Fusion.load(tmp_path / "fusion.npz", bank)
    levels = [defective(2, 3)]
    distances = bank.distances(levels)
    np.testing.assert_array_equal(again.fuse(levels, distances), first.fuse(levels, distances))
    torch.manual_seed(0)
    classifier, anomaly = Classifier("vgg16", "conv5_1", "oxford").eval(), first.anomaly(distances)
    expected = first.normal_features.retained(classifier, inputs(2, 2), anomaly)
    found = again.normal_features.retained(classifier, inputs(2, 2), again.anomaly(distances))
    np.testing.assert_array_equal(found.log_odds, expected.log_odds)
    np.testing.assert_array_equal(found.cells, expected.cells)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_a_broken_file_is_refused(bank, tmp_path, content):
    (tmp_path / "fusion.npz").write_bytes(content)
    with pytest.raises(DefectlocError, match=r"fusion\.npz cannot be read"):
        Fusion.load(tmp_path / "fusion.npz", bank)


def test_a_file_of_something_else_is_refused(bank, tmp_path):
    bank.save(tmp_path / "fusion.npz")
    with pytest.raises(DefectlocError, match="fit it again"):
        Fusion.load(tmp_path / "fusion.npz", bank)
