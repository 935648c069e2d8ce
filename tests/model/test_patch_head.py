from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from defectloc.errors import DefectlocError
from defectloc.model.bags import Bags
from defectloc.model.bank_labels import bank_reliability
from defectloc.model.kept_patches import UNKNOWN
from defectloc.model.patch_head import PatchHead, inner_folds
from defectloc.model.patch_training import Settings, n_witnesses

CHANNELS, SIDE = 6, 4
SHORT = Settings(hidden=8, steps=150, drawn_good=8, drawn_labelled=8, learning_rate=1e-2)
GOOD, BAD = 12, 8
LABELS = np.repeat([0, 1], [GOOD, BAD])


def bags(n_good: int, n_bad: int, seed: int = 0, channel: int = 0) -> torch.Tensor:
    """Make patches of noise; one patch of each defective image stands out in a channel."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n_good + n_bad, SIDE, SIDE, CHANNELS, generator=generator)
    values[n_good:, 1, 2, channel] += 6
    return values


def opened(values: torch.Tensor) -> Bags:
    """Give the patches `(N, h, w, C)` of images as the fit reads them."""
    n_patches = values.shape[1] * values.shape[2]
    return Bags(lambda number: lambda: iter([values[number].flatten(0, 1)]), np.full(len(values), n_patches))


def fitted(seed: int = 0, settings: Settings = SHORT, distances: np.ndarray | None = None) -> PatchHead:
    values = bags(GOOD, BAD)
    folds = inner_folds(LABELS, 0)
    return PatchHead.fit(opened(values), LABELS, folds, seed, settings=settings, distances=distances)


def test_labels_of_images_find_the_patch():
    found = fitted().log_odds(bags(5, 5, seed=1))
    assert found.shape == (10, SIDE, SIDE)
    assert found.dtype == np.float32
    assert (found[5:, 1, 2] > 0).all()
    assert found[:5].max() < found[5:, 1, 2].min()
    assert (found[5:].reshape(5, -1).argmax(1) == SIDE + 2).all()


def test_labels_by_a_person_tell_a_defect_from_what_comes_with_it():
    values = bags(GOOD, BAD)
    # Beside each defect something else that no good image has.
    values[GOOD:, 3, 0, 1] += 6
    folds = inner_folds(LABELS, 0)
    known = np.full((GOOD + BAD, SIDE, SIDE), -2, np.int8)
    known[GOOD : GOOD + 4] = 0
    known[GOOD : GOOD + 4, 1, 2] = 1
    gaps = []
    for given in (None, known):
        head = PatchHead.fit(opened(values), LABELS, folds, 0, settings=SHORT, known=given)
        found = head.log_odds(values[GOOD + 4 :])
        assert found[:, 1, 2].mean() > 0
        gaps.append((found[:, 1, 2] - found[:, 3, 0]).mean())
    assert gaps[1] > gaps[0] + 2


def test_equal_seeds_give_equal_heads():
    first, second, other = fitted(3), fitted(3), fitted(4)
    for name, value in first.weights.items():
        assert torch.equal(value, second.weights[name])
    assert not torch.equal(first.weights["hidden_weight"], other.weights["hidden_weight"])


def test_log_odds_are_the_mean_of_members_computed_one_by_one():
    head, values = fitted(), 9 * bags(2, 1, seed=5)
    each = []
    for m in range(head.n_members):
        hidden_weight, hidden_bias, weight, bias = (value[m] for value in head.weights.values())
        # Features beyond 8 standard deviations say no more.
        hidden = torch.nn.functional.gelu(values.clamp(-8, 8) @ hidden_weight + hidden_bias[0])
        each.append(hidden @ weight[:, 0] + bias[0, 0])
    np.testing.assert_allclose(head.log_odds(values), torch.stack(each).mean(0).numpy(), atol=1e-4)


def test_held_out_log_odds_are_by_the_member_that_did_not_see_the_image():
    values = bags(GOOD, BAD)
    folds = inner_folds(LABELS, 0)
    head = PatchHead.fit(opened(values), LABELS, folds, 0, settings=SHORT)
    assert head.n_members == 4
    # The images of fold 1 change, so only the members that learn from them may change: not the one that leaves it out.
    changed = values.clone()
    changed[torch.from_numpy(folds == 1)] += 3
    moved = PatchHead.fit(opened(changed), LABELS, folds, 0, settings=SHORT)
    same = [
        all(torch.equal(head.weights[name][m], moved.weights[name][m]) for name in head.weights)
        for m in range(head.n_members)
    ]
    assert same == [False, False, True, False]
    held_out = head.held_out_log_odds(values, folds)
    alone = PatchHead({name: value[2:3] for name, value in head.weights.items()})
    np.testing.assert_allclose(held_out[folds == 1], alone.log_odds(values)[folds == 1], atol=1e-5)


@pytest.mark.parametrize("n_bad", [0, 1])
def test_with_too_few_defective_images_there_is_one_member(n_bad):
    values, labels = bags(6, n_bad), np.repeat([0, 1], [6, n_bad])
    head = PatchHead.fit(opened(values), labels, inner_folds(labels, 0), 0, settings=SHORT)
    assert head.n_members == 1
    assert np.isfinite(head.log_odds(values)).all()
    with pytest.raises(DefectlocError, match="too few defective images"):
        head.held_out_log_odds(values, np.zeros(len(labels), int))


def test_without_defects_noisy_patches_stand_out():
    values = 0.3 * bags(GOOD, 0)
    labels = np.zeros(GOOD, int)
    settings = replace(SHORT, noise=4.0, noise_weight=1.0)
    head = PatchHead.fit(opened(values), labels, inner_folds(labels, 0), 0, settings=settings)
    far = 0.3 * bags(GOOD, 0, seed=2) + 3
    assert head.log_odds(far).mean() > head.log_odds(values).mean() + 1


def test_without_good_images_it_says_so():
    with pytest.raises(DefectlocError, match="needs good training images"):
        PatchHead.fit(opened(bags(0, 4)), np.ones(4, int), np.zeros(4, int), 0)


def test_a_reliable_bank_labels_patches_and_an_unreliable_one_changes_nothing():
    distances = np.zeros((GOOD + BAD, SIDE, SIDE))
    distances[GOOD:, 1, 2] = 9
    assert bank_reliability(distances, LABELS == 1) == 1.0
    blind = np.full((GOOD + BAD, SIDE, SIDE), 5.0)
    assert bank_reliability(blind, LABELS == 1) == 0.0
    plain = fitted().weights["output_weight"]
    assert torch.equal(fitted(distances=blind).weights["output_weight"], plain)
    assert not torch.equal(fitted(distances=distances).weights["output_weight"], plain)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("is_one_patch_known", [False, True])
def test_weak_defects_among_many_patches_are_found_without_a_bank(seed, is_one_patch_known):
    """From few witnesses alone the fit does not start: those that happen to be highest are no defects.

    A person who has labelled one patch, as good, does not change that.
    """
    generator, aurocs = torch.Generator().manual_seed(0), []
    learned, unseen = (torch.randn(n, 12, 12, 24, generator=generator) for n in (40, 80))
    for values in (learned, unseen):
        for defective in values[len(values) // 2 :].flatten(1, 2):
            defective[torch.randperm(144, generator=generator)[:8], :3] += 2.5
    settings = replace(SHORT, hidden=16, drawn_good=16, drawn_labelled=16, learning_rate=3e-3)
    labels, known = np.repeat([0, 1], 20), np.full((40, 12, 12), UNKNOWN, np.int8)
    known[20, 0, 0] = 0
    for first in (0.0, settings.first_witnesses):
        head = PatchHead.fit(
            opened(learned),
            labels,
            np.zeros(40, int),
            seed,
            settings=replace(settings, first_witnesses=first),
            known=known if is_one_patch_known else None,
        )
        highest = np.sort(head.log_odds(unseen).reshape(80, -1), 1)[:, -5:].mean(1)
        aurocs.append(roc_auc_score(np.repeat([0, 1], 40), highest))
    assert aurocs[0] < 0.7
    assert aurocs[1] > 0.9


@pytest.mark.parametrize(("done", "expected"), [(0.0, 261), (0.35, 36), (0.7, 5), (1.0, 5)])
def test_witnesses_become_fewer(done, expected):
    # The geometric mean of 261.3 and 5 is half-way.
    assert n_witnesses(784, Settings(), done) == expected
    assert n_witnesses(3, Settings(), done) == 3


def test_reliability_is_0_without_one_of_the_classes():
    distances = np.full((2, 1, 1), 9.0)
    assert bank_reliability(distances, np.array([True, True])) == 0.0
    assert bank_reliability(distances, np.array([False, False])) == 0.0


def test_saved_and_loaded_it_is_the_same(tmp_path):
    head, values = fitted(), bags(2, 2, seed=9)
    head.save(tmp_path / "head.npz")
    np.testing.assert_array_equal(PatchHead.load(tmp_path / "head.npz").log_odds(values), head.log_odds(values))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "head.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DefectlocError, match="cannot be read as a patch head"):
        PatchHead.load(path)


def test_inner_folds_share_classes_and_keep_groups():
    labels = np.repeat([0, 1], [9, 6])
    folds = inner_folds(labels, 0)
    assert [np.bincount(folds[labels == label]).tolist() for label in (0, 1)] == [[3, 3, 3], [2, 2, 2]]
    np.testing.assert_array_equal(folds, inner_folds(labels, 0))
    groups = np.arange(15) // 2
    grouped = inner_folds(labels, 0, groups)
    assert all(len(set(grouped[groups == group])) == 1 for group in groups)
