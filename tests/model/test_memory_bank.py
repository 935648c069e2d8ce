"""The memory bank: distances by brute force, its size, and where it samples."""

import numpy as np
import pytest
import torch

from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier
from defectloc.model.memory_bank import MemoryBank, patches

GRIDS = [(8.0, 3.5), (8.0, 3.5)]


def levels(n: int, seed: int = 0, size: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, channels, size, size)).astype(np.float32) for channels in (6, 3)]


def fitted(images: list[np.ndarray], dims: int = 9, budget: int = 2**20, seed: int = 0) -> MemoryBank:
    def batches():
        for start in range(0, len(images[0]), 2):
            yield [level[start : start + 2] for level in images]

    return MemoryBank.fit(batches, len(images[0]), GRIDS[: len(images)], dims, budget, seed)


def test_patches_are_local_means():
    level = np.zeros((1, 1, 4, 4), np.float32)
    level[0, 0, 0, 0] = 36
    found = patches([level], GRIDS[:1])[0, :, :, 0].numpy()
    # At the corner only 4 of the 9 cells exist, at an edge 6.
    np.testing.assert_allclose(found[:2, :2], [[9, 6], [6, 4]])
    assert found[2:].max() == 0


@pytest.mark.parametrize("order", [1, -1])
def test_coarser_levels_are_interpolated_to_the_finest_grid(order):
    """A ramp of ResNet's grids: cells of the coarse one lie on every second cell of the fine one."""
    fine = np.broadcast_to(np.arange(8, dtype=np.float32) * 8, (1, 1, 8, 8))
    coarse = np.broadcast_to(np.arange(4, dtype=np.float32) * 16, (1, 1, 4, 4))
    found = patches([fine, coarse][::order], [(8.0, 0.0), (16.0, 0.0)][::order])
    assert found.shape == (1, 8, 8, 2)
    # Away from the border local means leave a ramp as it is.
    np.testing.assert_allclose(found[0, 3, 2:5, 0], [16, 24, 32])
    np.testing.assert_allclose(found[0, 3, 2:5, 1], [16, 24, 32])


def test_patches_are_the_same_bits_as_means_taken_with_the_channels_first():
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, n, 9, 7, generator=generator) for n in (24, 40)]
    means = [torch.nn.functional.avg_pool2d(each, 3, stride=1, padding=1, count_include_pad=False) for each in levels]
    found = patches([each.numpy() for each in levels], [(8.0, 0.0)] * 2)
    assert torch.equal(found, torch.cat(means, 1).permute(0, 2, 3, 1))


def test_good_patches_are_at_distance_0_and_others_by_brute_force():
    good, new = levels(3), levels(2, seed=1)
    bank = fitted(good)
    np.testing.assert_allclose(bank.distances(good), 0, atol=2e-3)
    vectors = {}
    for name, images in (("good", good), ("new", new)):
        flat = patches(images, GRIDS).reshape(-1, 9).double()
        vectors[name] = ((flat - bank.mean) / bank.sd @ bank.projection.double()).numpy()
    gaps = np.linalg.norm(vectors["new"][:, None] - vectors["good"][None], axis=2).min(1)
    np.testing.assert_allclose(bank.distances(new).ravel(), gaps, rtol=1e-4)


@pytest.mark.parametrize("coarse", [(16.0, 7.5), (16.0, 0.0)])
def test_projected_patches_are_standardized_ones_times_a_matrix(coarse):
    rng = np.random.default_rng(4)
    # The second level is smaller, the first channel hardly varies beside its mean.
    good = [rng.normal(size=(3, channels, side, side)).astype(np.float32) for channels, side in ((6, 8), (3, 4))]
    good[0][:, 0] = 5 + 0.01 * good[0][:, 0]
    bank = MemoryBank.fit(lambda: [good], 3, [GRIDS[0], coarse], 9, 2**20, seed=0)
    matrix = torch.from_numpy(rng.normal(size=(9, 5)).astype(np.float32))
    expected = bank.standardized(good) @ matrix
    np.testing.assert_allclose(bank.projected(good, matrix), expected, atol=2e-3)
    assert bank.grid == min(GRIDS[0], coarse)


def test_a_changed_patch_is_the_farthest():
    good = levels(6)
    defect = [level[:1].copy() for level in good]
    defect[0][0, :, 2, 3] += 40
    distances = fitted(good).distances(defect)[0]
    assert np.unravel_index(distances.argmax(), (4, 4)) in {(y, x) for y in (1, 2, 3) for x in (2, 3)}


def test_budget_caps_the_bank_and_each_image_has_its_share():
    bank = fitted(levels(4), dims=2, budget=8 * 10)
    assert bank.vectors.shape == (8, 2)  # 10 places, 2 for each of 4 images
    assert fitted(levels(4), dims=2, budget=8 * 3).vectors.shape == (3, 2)


def test_of_more_good_images_than_places_any_can_give_its_patch():
    """Each image is of one number, so that the vectors tell where they are from; the last ones enter too."""
    images = [np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None, None], (12, 1, 2, 2))]
    origins = set()
    for seed in range(20):
        bank = fitted(images, dims=1, budget=4 * 4, seed=seed)
        numbers = (bank.vectors / bank.projection * bank.sd + bank.mean).round().flatten().tolist()
        assert len(set(numbers)) == 4
        origins |= set(numbers)
    assert origins == set(range(12))


def test_without_images_the_bank_has_none_of_their_patches():
    good = levels(4)
    bank = fitted(good, dims=9, budget=36 * 32)
    assert bank.origins.tolist() == [number for number in range(4) for _ in range(8)]
    rest = bank.without([1, 3])
    assert torch.equal(rest.vectors, bank.vectors[torch.isin(bank.origins, torch.tensor([0, 2]))])
    assert (rest.distances(good) >= bank.distances(good) - 1e-4).all()
    assert rest.distances(good)[[1, 3]].min() > 0.1
    assert bank.without([0, 1, 2, 3]) is None


def test_of_more_images_than_places_the_patches_are_of_the_chosen_ones():
    images = [np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None, None], (12, 1, 2, 2))]
    bank = fitted(images, dims=1, budget=4 * 4)
    numbers = (bank.vectors / bank.projection * bank.sd + bank.mean).round().flatten().tolist()
    assert bank.origins.tolist() == numbers


def test_deterministic_in_the_seed():
    first, again, other = (fitted(levels(4), dims=3, budget=400, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)


def test_a_constant_channel_gives_finite_distances():
    good = levels(3)
    good[1][:] = 5
    assert np.isfinite(fitted(good).distances(good)).all()


@pytest.mark.parametrize("budget", [0, 7])
def test_an_empty_bank_is_refused(budget):
    with pytest.raises(DefectlocError, match="would be empty"):
        fitted(levels(2), dims=2, budget=budget)


def test_no_good_image_is_refused():
    with pytest.raises(DefectlocError, match="0 good training images"):
        MemoryBank.fit(lambda: [], 0, GRIDS, 2, 100, 0)


def test_saved_without_pickle_and_read_again(tmp_path):
    bank, new = fitted(levels(3)), levels(1, seed=3)
    bank.save(tmp_path / "bank.npz")
    again = MemoryBank.load(tmp_path / "bank.npz")
    assert again.grids == bank.grids == tuple(GRIDS)
    assert torch.equal(again.origins, bank.origins)
    np.testing.assert_array_equal(again.distances(new), bank.distances(new))


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04 cut"])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "bank.npz").write_bytes(content)
    with pytest.raises(DefectlocError, match=r"bank\.npz cannot be read as a memory bank"):
        MemoryBank.load(tmp_path / "bank.npz")


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "bank.npz", grids=np.zeros((1, 2)), mean=np.zeros(3))
    with pytest.raises(DefectlocError, match="fit it again"):
        MemoryBank.load(tmp_path / "bank.npz")


@pytest.mark.parametrize(
    ("backbone", "cut"), [("vgg16", "conv5_1"), ("resnet50", "layer4"), ("densenet121", "denseblock4")]
)
def test_levels_of_each_backbone_lie_on_a_grid_of_8_pixels(backbone, cut):
    classifier = Classifier(backbone, cut, "torchvision").eval()
    with torch.inference_mode():
        found = classifier.levels(torch.zeros(1, 3, 64, 64), classifier.bank_levels)
    grids = [classifier.grid_of(level) for level in classifier.bank_levels]
    assert patches([found[level].numpy() for level in classifier.bank_levels], grids).shape[1:3] == (8, 8)
    assert min(grids)[0] == 8


def test_each_level_counts_alike():
    """One of 6 channels and one of 3, standardised: weights 3 / 4 and 3 / 2 of the squares."""
    good, new = levels(4), levels(2, seed=1)
    bank = fitted(good, dims=3, budget=12 * 9)
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(9, 3, generator=generator) / 3**0.5
    projection *= torch.tensor([0.75] * 6 + [1.5] * 3).sqrt()[:, None]
    kept = []
    for image in patches(good, GRIDS).reshape(4, -1, 9):
        sample = torch.randperm(16, generator=generator)[:2]
        kept.append(((image[sample] - bank.mean) / bank.sd) @ projection)
    vectors = torch.cat(kept)
    assert torch.equal(bank.vectors, vectors)
    reduced = (patches(new, GRIDS).reshape(-1, 9) - bank.mean) / bank.sd @ projection
    gaps = (vectors.square().sum(1) - 2 * reduced @ vectors.T).amin(1) + reduced.square().sum(1)
    np.testing.assert_allclose(bank.distances(new).ravel(), gaps.clamp_min(0).sqrt().numpy(), rtol=1e-5)
