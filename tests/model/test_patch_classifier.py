"""Labels of images as labels of patches, on made-up features: good patches are noise, defects a direction in it."""

import numpy as np
import pytest
import torch

from defectloc.model import patch_classifier
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.patch_classifier import FEWEST, PatchClassifier

N, SIZE, CHANNELS, SHIFT = 12, 6, 16, 8.0
GRIDS = [(8.0, 3.5)]


def level(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, CHANNELS, SIZE, SIZE)).astype(np.float32)


def defective(n: int, seed: int, channel: int = 0) -> np.ndarray:
    """Give levels with a defect of 2 x 2 cells at row 2, column 3."""
    values = level(n, seed)
    values[:, channel, 2:4, 3:5] += SHIFT
    return values


@pytest.fixture(scope="module")
def bank() -> MemoryBank:
    return MemoryBank.fit(lambda: [[level(N, 0)]], N, GRIDS, 32, 2**20, seed=0)


def fitted(bank: MemoryBank) -> PatchClassifier:
    held_out = bank.distances([level(N, 7)])
    good, bad = bank.standardized([level(N, 0)]), [defective(N, 1)]
    anomaly = (bank.distances(bad) - held_out.mean()) / held_out.std()
    model = PatchClassifier.fit([good], [(bank.standardized(bad), anomaly)], np.zeros((N, SIZE, SIZE)), N, seed=0)
    assert model is not None
    return model


def test_patches_learn_what_is_anomalous_about_the_labelled(bank):
    model = fitted(bank)
    same = model.log_odds(bank, [defective(4, 2)])
    other = model.log_odds(bank, [defective(4, 2, channel=9)])
    assert same[:, 2:4, 3:5].mean() > 0 > same[:, 4:, :2].mean()
    # As anomalous, but no labelled image showed it.
    assert other[:, 2:4, 3:5].mean() < same[:, 2:4, 3:5].mean() - 2


def test_without_anomalous_patches_nothing_is_fitted(bank):
    good, other = (bank.standardized([level(N, seed)]) for seed in (0, 1))
    nothing = np.zeros((N, SIZE, SIZE), np.float32)
    assert PatchClassifier.fit([good], [(other, nothing)], nothing, N, seed=0) is None
    few = nothing.copy()
    few.ravel()[: FEWEST - 1] = 9
    assert PatchClassifier.fit([good], [(other, few)], nothing, N, seed=0) is None
    few.ravel()[:FEWEST] = 9
    assert PatchClassifier.fit([good], [(other, few)], nothing, N, seed=0) is not None
    assert PatchClassifier.fit([], [(other, few)], nothing, 0, seed=0) is None
    assert PatchClassifier.fit([good], [], nothing, N, seed=0) is None


def test_a_fit_is_deterministic(bank):
    first, second = fitted(bank), fitted(bank)
    assert torch.equal(first.weights, second.weights)
    assert first.bias == second.bias


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.25, 0.5), (0.5, 0), (1, 0)])
def test_what_good_images_have_too_is_no_example(bank, share, expected):
    """A share of the patches that are anomalous on defective images is as anomalous on good ones."""
    good, bad = (bank.standardized([values]) for values in (level(N, 0), level(N, 1)))
    anomaly = np.zeros((N, SIZE, SIZE))
    anomaly[:, :2] = 9
    held_out = np.zeros((N, 12))
    held_out[:, : round(4 * share)] = 9
    model = PatchClassifier.fit([good], [(bad, anomaly)], held_out, N, seed=0)
    assert model is not None
    assert model.reliability == pytest.approx(expected)
    full = (bad @ model.weights + model.bias).numpy()
    np.testing.assert_allclose(model.log_odds(bank, [level(N, 1)]), model.reliability * full, atol=1e-4)


def held_by_fit(monkeypatch, places: int, good: torch.Tensor, bad: torch.Tensor, seed: int) -> tuple[np.ndarray, float]:
    """Give the positive examples that a fit with so many places takes, and its reliability."""
    examples = []

    class Regression(patch_classifier.LogisticRegression):
        def fit(self, values, labels):
            examples.append(values[labels == 1])
            return super().fit(values, labels)

    monkeypatch.setattr(patch_classifier, "LogisticRegression", Regression)
    monkeypatch.setattr(patch_classifier, "MOST", places)
    parts = [(part, np.full(part.shape[:3], 9.0)) for part in bad.split(3)]
    held_out = np.zeros((1, 100))
    held_out[0, :10] = 9
    model = PatchClassifier.fit([good], parts, held_out, len(good), seed)
    assert model is not None
    return examples[0], model.reliability


def test_examples_of_defects_are_held_up_to_a_number(bank, monkeypatch):
    good, bad = (bank.standardized([level(N, seed)]) for seed in (0, 1))
    every, reliability = held_by_fit(monkeypatch, 10_000, good, bad, 0)
    np.testing.assert_array_equal(every, bad.flatten(0, 2))
    origins = set()
    for seed in range(20):
        some, same = held_by_fit(monkeypatch, 50, good, bad, seed)
        assert some.shape == (50, CHANNELS)
        assert same == reliability
        where = (bad.flatten(0, 2).numpy()[None] == some[:, None]).all(2).argmax(1)
        origins |= set((where // SIZE**2).tolist())
    # Of the last image as of the first.
    assert origins == set(range(N))
    assert same == pytest.approx(0.8)
