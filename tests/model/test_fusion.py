"""Memory and labels together, on drawn features: good patches are noise, defects are a direction in it."""

import numpy as np
import pytest
import torch

from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier, class_activation_map
from defectloc.model.fusion import Fusion
from defectloc.model.memory import GoodMemory
from defectloc.model.patches import FEWEST, PatchClassifier
from defectloc.model.reference import GoodReference

N, SIZE, CHANNELS = 12, 6, 16
SHIFT = 8.0


def level(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, CHANNELS, SIZE, SIZE)).astype(np.float32)


def spoiled(n: int, seed: int, channel: int = 0) -> np.ndarray:
    """Give levels with a defect of 2 x 2 cells at row 2, column 3."""
    values = level(n, seed)
    values[:, channel, 2:4, 3:5] += SHIFT
    return values


@pytest.fixture
def memory() -> GoodMemory:
    return GoodMemory.fit(lambda: [[level(N, 0)]], N, 32, 2**20, seed=0)


def scale(memory: GoodMemory) -> tuple[float, float]:
    distances = memory.distances([level(N, 7)])
    return float(distances.mean()), float(distances.std())


def taught(memory: GoodMemory, channel: int = 0) -> PatchClassifier | None:
    mean, sd = scale(memory)
    good, bad = memory.standardized([level(N, 0)]), [spoiled(N, 1, channel)]
    suspects = [(memory.standardized(bad), (memory.distances(bad) - mean) / sd)]
    return PatchClassifier.fit([good], suspects, np.zeros((N, SIZE, SIZE)), N, seed=0)


def test_patches_learn_what_is_unusual_about_the_labelled(memory):
    model = taught(memory)
    assert model is not None
    same = model.log_odds(memory, [spoiled(4, 2)])
    other = model.log_odds(memory, [spoiled(4, 2, channel=9)])
    assert same[:, 2:4, 3:5].mean() > 0 > same[:, 4:, :2].mean()
    # As unusual, but no labelled image showed it.
    assert other[:, 2:4, 3:5].mean() < same[:, 2:4, 3:5].mean() - 2


def test_nothing_unusual_teaches_nothing(memory):
    good, other = (memory.standardized([level(N, seed)]) for seed in (0, 1))
    quiet = np.zeros((N, SIZE, SIZE), np.float32)
    assert PatchClassifier.fit([good], [(other, quiet)], quiet, N, seed=0) is None
    assert FEWEST > 0


def test_learning_is_deterministic(memory):
    first, second = taught(memory), taught(memory)
    assert torch.equal(first.weights, second.weights)
    assert first.bias == second.bias


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier("vgg16", "conv5_1", "oxford").eval()


def inputs(classifier: Classifier, n: int, seed: int) -> np.ndarray:
    """Give what the tail takes of images of 64 px, far enough apart that no two good cells are equally near."""
    with torch.inference_mode():
        shape = classifier.features(torch.zeros(1, 3, 64, 64)).shape[1:]
    return np.abs(np.random.default_rng(seed).normal(size=(n, *shape))).astype(np.float32)


def own_log_odds(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return class_activation_map(classifier.channels(torch.from_numpy(features))).mean((1, 2)).numpy()


def test_all_unusual_keeps_the_decision(classifier):
    features = inputs(classifier, 3, 1)
    reference = GoodReference.fit([inputs(classifier, 4, 0)], 4, seed=0)
    kept, cells = reference.kept(classifier, features, np.full((3, 8, 8), 9.0))
    np.testing.assert_allclose(kept, own_log_odds(classifier, features), atol=1e-5)
    assert cells.all()


def test_nothing_unusual_gives_a_part_made_of_good_cells(classifier):
    features = inputs(classifier, 3, 1)
    reference = GoodReference.fit([inputs(classifier, 4, 0)], 4, seed=0)
    kept, cells = reference.kept(classifier, features, np.zeros((3, 8, 8)))
    assert not cells.any()
    flat = features.transpose(0, 2, 3, 1).reshape(-1, features.shape[1])
    gaps = np.linalg.norm((flat[:, None] - reference.bank.numpy()[None]) / reference.sd.numpy(), axis=2)
    made = reference.bank.numpy()[gaps.argmin(1)].reshape(features.transpose(0, 2, 3, 1).shape).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(kept, own_log_odds(classifier, np.ascontiguousarray(made)), atol=1e-5)


def test_what_is_unusual_stays_with_its_neighbours(classifier):
    unusual = np.zeros((1, 8, 8))
    unusual[0, 0, 0] = 9
    features = inputs(classifier, 1, 1)
    assert features.shape[2:] == (4, 4)
    _, cells = GoodReference.fit([inputs(classifier, 4, 0)], 4, seed=0).kept(classifier, features, unusual)
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(cells[0], expected)


def fitted(memory: GoodMemory, classifier: Classifier) -> Fusion:
    return Fusion.fit(
        memory,
        scale(memory),
        memory.distances([level(N, 7)]),
        lambda: [[level(N, 0)]],
        lambda: [[spoiled(N, 1)]],
        [inputs(classifier, 4, 0)],
        N,
        seed=0,
    )


def test_map_is_hot_where_unusual_and_taught(memory, classifier):
    fusion = fitted(memory, classifier)
    seen = fusion.look(classifier, [spoiled(1, 3)], inputs(classifier, 1, 2))
    assert seen.fused.min() >= 0
    unusual = (seen.distances - fusion.mean) / fusion.sd
    assert (seen.fused <= unusual.clip(0) + 1e-6).all()
    row, column = np.unravel_index(seen.fused[0].argmax(), (SIZE, SIZE))
    assert row in (1, 2, 3, 4)
    assert column in (2, 3, 4, 5)


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.25, 0.5), (0.5, 0), (1, 0)])
def test_what_good_images_have_too_is_no_example(memory, share, expected):
    """A share of the patches that are unusual on defective images is as unusual on good ones."""
    good, bad = (memory.standardized([values]) for values in (level(N, 0), level(N, 1)))
    unusual = np.zeros((N, SIZE, SIZE))
    unusual[:, :2] = 9
    held_out = np.zeros((N, 12))
    held_out[:, : round(4 * share)] = 9
    model = PatchClassifier.fit([good], [(bad, unusual)], held_out, N, seed=0)
    assert model is not None
    assert model.trust == pytest.approx(expected)
    full = (bad @ model.weights + model.bias).numpy()
    np.testing.assert_allclose(model.log_odds(memory, [level(N, 1)]), model.trust * full, atol=1e-4)


def test_without_what_labels_teach_the_chances_are_even(memory, classifier):
    fusion = fitted(memory, classifier)
    alone = Fusion(memory, fusion.mean, fusion.sd, None, fusion.reference)
    seen = alone.look(classifier, [spoiled(2, 3)], inputs(classifier, 2, 2))
    np.testing.assert_allclose(seen.fused, ((seen.distances - fusion.mean) / fusion.sd).clip(0) / 2, rtol=1e-6)


@pytest.mark.parametrize("learnt", [True, False])
def test_read_again_it_gives_the_same(memory, classifier, tmp_path, learnt):
    fusion = fitted(memory, classifier)
    if not learnt:
        fusion = Fusion(memory, fusion.mean, fusion.sd, None, fusion.reference)
    fusion.save(tmp_path / "fusion.npz", "key")
    again = Fusion.load(tmp_path / "fusion.npz", "key", memory)
    arguments = (classifier, [spoiled(2, 3)], inputs(classifier, 2, 2))
    for name in ("distances", "fused", "kept_log_odds", "kept"):
        np.testing.assert_array_equal(getattr(fusion.look(*arguments), name), getattr(again.look(*arguments), name))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_a_broken_file_is_refused(memory, tmp_path, content):
    (tmp_path / "fusion.npz").write_bytes(content)
    with pytest.raises(DefectlocError, match=r"fusion\.npz"):
        Fusion.load(tmp_path / "fusion.npz", "key", memory)


def test_of_something_else_is_refused(memory, classifier, tmp_path):
    fitted(memory, classifier).save(tmp_path / "fusion.npz", "key")
    with pytest.raises(DefectlocError, match="fit it again"):
        Fusion.load(tmp_path / "fusion.npz", "other", memory)
