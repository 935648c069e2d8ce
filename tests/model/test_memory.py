"""What good parts look like."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from sklearn.decomposition import PCA

from defectloc import runs
from defectloc.errors import DefectlocError
from defectloc.model import memory as memory_module
from defectloc.model.classifier import Classifier
from defectloc.model.memory import LEVELS, GoodMemory, patches
from defectloc.model.reduction import k_center


def levels(n: int, seed: int = 0, size: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, channels, size, size)).astype(np.float32) for channels in (6, 3)]


def remembered(images: list[np.ndarray], dims: int = 9, budget: int = 2**20, seed: int = 0, **options) -> GoodMemory:
    def batches():
        for start in range(0, len(images[0]), 2):
            yield [level[start : start + 2] for level in images]

    return GoodMemory.fit(batches, len(images[0]), dims, budget, seed, **options)


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


def test_projected_patches_are_standardized_ones_times_a_matrix():
    rng = np.random.default_rng(4)
    # The second level is smaller, the first channel hardly varies beside its mean.
    good = [rng.normal(size=(3, channels, side, side)).astype(np.float32) for channels, side in ((6, 8), (3, 4))]
    good[0][:, 0] = 5 + 0.01 * good[0][:, 0]
    memory = GoodMemory.fit(lambda: [good], 3, 9, 2**20, seed=0)
    matrix = torch.from_numpy(rng.normal(size=(9, 5)).astype(np.float32))
    expected = memory.standardized(good) @ matrix
    np.testing.assert_allclose(memory.projected(good, matrix), expected, atol=2e-3)


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


def flat(images: list[np.ndarray], memory: GoodMemory) -> np.ndarray:
    """Reduced patches in double, without their places."""
    vectors = patches(images).reshape(-1, len(memory.mean)).double()
    return ((vectors - memory.mean) / memory.sd @ memory.projection.double()).numpy()


OPTIONS = [
    {},
    {"reduction": "pca"},
    {"sampling": "kcenter"},
    {"position": 0.5},
    {"reduction": "pca", "sampling": "kcenter", "position": 2.0},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_are_deterministic_and_saved(tmp_path, options):
    new = levels(2, seed=3)
    first, again = (remembered(levels(6), dims=4, budget=400, **options) for _ in range(2))
    assert torch.equal(first.bank, again.bank)
    assert 4 * first.bank.numel() <= 400
    first.save(tmp_path / "memory.npz", "key")
    loaded = GoodMemory.load(tmp_path / "memory.npz", "key")
    np.testing.assert_array_equal(loaded.distances(new), first.distances(new))


def test_each_level_counts_alike():
    """One of 6 channels and one of 3, standardised: weights 3 / 4 and 3 / 2 of the squares."""
    good, new = levels(4), levels(2, seed=1)
    memory = remembered(good, dims=3, budget=12 * 9)
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(9, 3, generator=generator) / 3**0.5
    projection *= torch.tensor([0.75] * 6 + [1.5] * 3).sqrt()[:, None]
    kept = []
    for image in patches(good).reshape(4, -1, 9):
        drawn = torch.randperm(16, generator=generator)[:2]
        kept.append(((image[drawn] - memory.mean) / memory.sd) @ projection)
    bank = torch.cat(kept)
    assert torch.equal(memory.bank, bank)
    reduced = (patches(new).reshape(-1, 9) - memory.mean) / memory.sd @ projection
    gaps = (bank.square().sum(1) - 2 * reduced @ bank.T).amin(1) + reduced.square().sum(1)
    np.testing.assert_allclose(memory.distances(new).ravel(), gaps.clamp_min(0).sqrt().numpy(), rtol=1e-5)


def test_a_memory_from_before_the_options_is_read(tmp_path):
    memory, new = remembered(levels(3)), levels(1, seed=3)
    arrays = {name: getattr(memory, name).numpy() for name in ("mean", "sd", "projection", "bank")}
    np.savez(tmp_path / "memory.npz", key=np.array("key"), **arrays)
    again = GoodMemory.load(tmp_path / "memory.npz", "key")
    np.testing.assert_array_equal(again.distances(new), memory.distances(new))


def test_principal_axes_are_those_of_scikit_learn():
    good = levels(12)
    good[0][:, 1] = 3 * good[0][:, 0] + good[0][:, 1]
    good[1][:, 2] = 7
    memory = remembered(good, dims=4, reduction="pca")
    weight = torch.tensor([0.75] * 6 + [1.5] * 3).sqrt()
    vectors = (patches(good).reshape(-1, 9) - memory.mean) / memory.sd * weight
    expected = PCA(4, svd_solver="full").fit(vectors.double().numpy()).components_
    axes = (memory.projection / weight[:, None]).numpy()
    # An axis has no sign.
    np.testing.assert_allclose(np.abs((expected @ axes).diagonal()), 1, atol=1e-5)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-6)


def test_fewer_channels_than_principal_axes():
    assert remembered(levels(2), dims=9, reduction="pca").bank.shape == (32, 9)
    with pytest.raises(DefectlocError, match=r"memory.dims=10 is more .* 9 channels"):
        remembered(levels(2), dims=10, reduction="pca")


@pytest.mark.parametrize("n", [1, 2, 20, 60])
def test_k_center_by_brute_force(n):
    points = np.random.default_rng(5).normal(size=(60, 3))
    expected = [7]
    while len(expected) < n:
        gaps = np.linalg.norm(points[:, None] - points[expected], axis=2).min(1)
        expected.append(int(gaps.argmax()))
    assert k_center(torch.from_numpy(points).float(), n, 7).tolist() == expected


def test_k_center_picks_no_point_twice():
    assert sorted(k_center(torch.ones(5, 2), 5, 3).tolist()) == [0, 1, 2, 3, 4]


def test_k_center_keeps_what_is_rare():
    good = levels(6)
    good[0][4, :, 1:, 1:] += 30
    memory = remembered(good, dims=9, budget=36 * 20, sampling="kcenter")
    assert memory.bank.shape == (20, 9)
    # What is left over is no farther from the bank than any two of the bank are from each other.
    assert memory.distances(good).max() <= torch.pdist(memory.bank).min()
    drawn = remembered(good, dims=9, budget=36 * 20)
    assert memory.distances(good).max() < drawn.distances(good).max()
    pool = remembered(good).bank
    assert (memory.bank[:, None] == pool).all(2).any(1).all()


@pytest.mark.parametrize("room", [1, 3, 96, 200])
def test_k_center_of_any_budget(room):
    memory = remembered(levels(6), dims=2, budget=8 * room, sampling="kcenter")
    assert len(memory.bank) == min(room, 96)
    assert np.isfinite(memory.distances(levels(1, seed=1))).all()


def test_pool_of_k_center_is_bounded(monkeypatch):
    seen = []
    monkeypatch.setattr(memory_module, "KCENTER_POOL", 30)
    monkeypatch.setattr(memory_module, "k_center", lambda pool, n, start: seen.append(len(pool)) or torch.arange(n))
    remembered(levels(6), dims=2, budget=80, sampling="kcenter")
    assert seen == [30]
    # As large as the bank where that is larger.
    assert len(remembered(levels(6), dims=2, budget=8 * 48, sampling="kcenter").bank) == 48
    assert seen == [30]


def test_position_by_brute_force():
    good, new = levels(3), levels(2, seed=1)
    memory = remembered(good, position=0.7)
    assert memory.bank.shape == (48, 11)
    reach = float(memory.reach)
    between = np.linalg.norm(flat(good, memory)[:, None] - flat(good, memory), axis=2)
    assert reach == pytest.approx(0.7 * between[~np.eye(48, dtype=bool)].mean(), rel=0.15)
    places = np.stack(np.meshgrid(np.arange(4) / 4, np.arange(4) / 4, indexing="ij"), -1).reshape(-1, 2) * reach
    known = np.hstack([flat(good, memory), np.tile(places, (3, 1))])
    asked = np.hstack([flat(new, memory), np.tile(places, (2, 1))])
    gaps = np.linalg.norm(asked[:, None] - known, axis=2).min(1)
    np.testing.assert_allclose(memory.distances(new).ravel(), gaps, rtol=1e-4)


def test_a_good_patch_in_the_wrong_place_is_far_only_with_position():
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32).reshape(4, 4), (3, 2, 4, 4)).copy()
    turned = [ramp[:1, :, ::-1, ::-1]]
    assert remembered([ramp], dims=2).distances(turned).max() < 1e-2
    heat = remembered([ramp], dims=2, position=1.0).distances(turned)[0]
    # What is at a corner belongs to the opposite one; the middle moved least.
    assert heat[0, 0] > 2 * heat[1, 1] > 0


def test_position_where_all_good_patches_are_equal():
    good = [np.ones((2, 3, 4, 4), np.float32)]
    np.testing.assert_array_equal(remembered(good, dims=2, position=1.0).distances(good), 0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("memory.reduction=ica", ["memory.reduction=ica", "random, pca"]),
        ("memory.sampling=grid", ["memory.sampling=grid", "random, kcenter"]),
        ("memory.position=-1", ["memory.position=-1", "above 0"]),
        ("memory.position=inf", ["memory.position=inf", "finite"]),
        ("memory.position=nan", ["memory.position=nan", "finite"]),
        ("memory.sampling=kcenter memory.budget_mb=64", ["memory.budget_mb=64", "32768"]),
    ],
)
def test_bad_values(command, monkeypatch, override, words):
    # Refused before anything is loaded.
    monkeypatch.setattr("defectloc.train.prepare", None)
    sentence = command("train", "data=synthetic", "subset=pill", *override.split()).sentence
    assert all(word in sentence for word in words)


def test_options_are_part_of_a_run(command):
    arguments = ["data=synthetic", "subset=pill", *(item for item in SMALL if not item.startswith("localization."))]
    chosen = ["memory.reduction=pca", "memory.sampling=kcenter", "memory.position=1", "memory.budget_mb=0.01"]
    assert command("train", *arguments, "training.epochs=1", *chosen).code == 0
    folder = next(Path("outputs").glob("pill/fold0-*"))
    assert json.loads(runs.Run.open(folder).maps("memory").key)[1:-1] == [128, 0.01, 0, "pca", "kcenter", 1.0]
    predicted = command(
        "predict", f"run={folder}", f"images={runs.Run.open(folder).record['root']}/pill/test", "output=new"
    )
    assert predicted.code == 0, predicted.err
