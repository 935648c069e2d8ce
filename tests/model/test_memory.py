"""What good parts look like."""

import numpy as np
import pytest
import torch

from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier
from defectloc.model.memory import LEVELS, GoodMemory, patches


def levels(n: int, seed: int = 0, size: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, channels, size, size)).astype(np.float32) for channels in (6, 3)]


def remembered(images: list[np.ndarray], dims: int = 9, budget: int = 2**20, seed: int = 0) -> GoodMemory:
    def batches():
        for start in range(0, len(images[0]), 2):
            yield [level[start : start + 2] for level in images]

    return GoodMemory.fit(batches, len(images[0]), dims, budget, seed)


def test_patches_are_local_means():
    level = np.zeros((1, 1, 4, 4), np.float32)
    level[0, 0, 0, 0] = 36
    found = patches([level])[0, :, :, 0].numpy()
    # At the corner only 4 of the 9 cells exist, at an edge 6.
    np.testing.assert_allclose(found[:2, :2], [[9, 6], [6, 4]])
    assert found[2:].max() == 0


def test_smaller_levels_come_to_the_largest_grid():
    assert patches([np.ones((2, 5, 8, 8), np.float32), np.ones((2, 7, 4, 4), np.float32)]).shape == (2, 8, 8, 12)


def test_good_patches_are_at_distance_0_and_others_by_brute_force():
    good, new = levels(3), levels(2, seed=1)
    memory = remembered(good)
    np.testing.assert_allclose(memory.distances(good), 0, atol=2e-3)
    vectors = {}
    for name, images in (("good", good), ("new", new)):
        flat = patches(images).reshape(-1, 9).double()
        vectors[name] = ((flat - memory.mean) / memory.sd @ memory.projection.double()).numpy()
    gaps = np.linalg.norm(vectors["new"][:, None] - vectors["good"][None], axis=2).min(1)
    np.testing.assert_allclose(memory.distances(new).ravel(), gaps, rtol=1e-4)


def test_a_changed_patch_is_the_hottest():
    good = levels(6)
    defect = [level[:1].copy() for level in good]
    defect[0][0, :, 2, 3] += 40
    heat = remembered(good).distances(defect)[0]
    assert np.unravel_index(heat.argmax(), heat.shape) in {(y, x) for y in (1, 2, 3) for x in (2, 3)}


def test_budget_caps_the_bank_and_each_image_has_its_share():
    memory = remembered(levels(4), dims=2, budget=8 * 10)
    assert memory.bank.shape == (8, 2)  # 10 places, 2 for each of 4 images
    assert remembered(levels(4), dims=2, budget=8 * 3).bank.shape == (3, 2)


def test_deterministic_in_the_seed():
    first, again, other = (remembered(levels(4), dims=3, budget=400, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.bank, again.bank)
    assert not torch.equal(first.bank, other.bank)


def test_a_channel_that_never_moves_gives_finite_distances():
    good = levels(3)
    good[1][:] = 5
    assert np.isfinite(remembered(good).distances(good)).all()


@pytest.mark.parametrize("budget", [0, 7])
def test_nothing_to_remember(budget):
    with pytest.raises(DefectlocError, match="would be empty"):
        remembered(levels(2), dims=2, budget=budget)


def test_saved_without_pickle_and_read_again(tmp_path):
    memory, new = remembered(levels(3)), levels(1, seed=3)
    memory.save(tmp_path / "memory.npz", "key")
    again = GoodMemory.load(tmp_path / "memory.npz", "key")
    np.testing.assert_array_equal(again.distances(new), memory.distances(new))
    with pytest.raises(DefectlocError, match="cannot be read"):
        GoodMemory.load(tmp_path / "memory.npz", "other")
    (tmp_path / "memory.npz").write_bytes(b"PK")
    with pytest.raises(DefectlocError, match="cannot be read"):
        GoodMemory.load(tmp_path / "memory.npz", "key")


@pytest.mark.parametrize(
    ("backbone", "cut"), [("vgg16", "conv5_1"), ("resnet50", "layer4"), ("densenet121", "denseblock4")]
)
def test_levels_of_each_backbone_lie_on_a_grid_of_8_pixels(backbone, cut):
    classifier = Classifier(backbone, cut, "torchvision").eval()
    with torch.inference_mode():
        found = classifier.levels(torch.zeros(1, 3, 64, 64), LEVELS[backbone])
    vectors = patches([found[level].numpy() for level in LEVELS[backbone]])
    assert vectors.shape[1:3] == (8, 8)
    assert min(classifier.grid_of(level) for level in LEVELS[backbone])[0] == 8


def test_stage_that_is_not_frozen():
    classifier = Classifier("vgg16", "conv4_1", "torchvision")
    with pytest.raises(DefectlocError, match="no stage 'conv4_3'"):
        classifier.levels(torch.zeros(1, 3, 32, 32), ["conv4_3"])
