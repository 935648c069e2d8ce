"""What is kept of photographs with many patches."""

import numpy as np
import pytest
import torch

from defectloc.model import bags as module
from defectloc.model.bags import Bags
from defectloc.model.kept_patches import CLAMP
from defectloc.model.patch_head import PatchHead, inner_folds
from defectloc.model.patch_training import Settings

CHANNELS = 3


def bags(n_patches):
    """Photographs whose patch i of photograph n has the values (i / 1000, n, 1), in pieces of 7."""

    def opened(number):
        at = torch.arange(float(n_patches[number])) / 1000
        vectors = torch.stack([at, torch.full_like(at, number), torch.ones_like(at)], 1)
        return lambda: vectors.split(7)

    return Bags(opened, np.array(n_patches))


def read(source, truth, budget=2**30, **given):
    given = {"distances": None, "known": None, "score": None} | given
    members = np.stack([np.ones(len(truth), bool), np.arange(len(truth)) % 2 == 0])
    return source.read(np.array(truth) == 1, members, 0, "cpu", budget, **given)


def kept_of(kept, row):
    return (kept.patches[row, :, 0].float() * 1000).round().int().tolist()


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(module, "MOST_PATCHES", 10)
    monkeypatch.setattr(module, "LEAST_PATCHES", 5)


def test_what_stands_out_is_kept_beside_random_patches():
    distances = [np.zeros((5, 8)), np.zeros((10, 10))]
    distances[1][3, 4:9] = 5
    good, defective = read(bags([40, 100]), [0, 1], distances=distances, score=distances)
    assert good.patches.shape == defective.patches.shape == (1, 10, CHANNELS)
    places = kept_of(defective, 0)
    assert places == sorted(set(places))
    assert set(range(34, 39)) < set(places)
    # Distances belong to their patches.
    assert defective.distances[0].tolist() == [5.0 if 34 <= place < 39 else 0.0 for place in places]
    assert (defective.patches[0, :, 1] == 1).all()


def test_a_score_of_patches_ranks_them():
    _, defective = read(bags([40, 100]), [0, 1], score=lambda vectors: -vectors[:, 0])
    assert set(range(5)) < set(kept_of(defective, 0))


@pytest.mark.parametrize(("most", "passes"), [(2 * CHANNELS * 100, 1), (2 * CHANNELS * 99, 2)])
def test_patches_are_held_between_score_and_copy_where_there_are_few(monkeypatch, most, passes):
    monkeypatch.setattr(module, "MOST_HELD", most)
    source, n_passes = bags([100, 100]), {0: 0, 1: 0}

    def opened(number):
        pieces = source.open_(number)

        def counted():
            n_passes[number] += 1
            return pieces()

        return counted

    truth, scores = [0, 1], [np.arange(100.0).reshape(10, 10)] * 2
    found = read(Bags(opened, source.n_patches), truth, score=lambda vectors: 1000 * vectors[:, 0])
    # The first photograph is opened once more, to count channels.
    assert n_passes == {0: passes + 1, 1: passes}
    expected = read(source, truth, score=scores)
    assert all(torch.equal(one.patches, other.patches) for one, other in zip(found, expected, strict=True))


def test_patches_marked_by_a_person_are_kept():
    known = [np.full((5, 8), -2, np.int8), np.full((10, 10), -2, np.int8)]
    known[1][9, 7:] = 1
    _, defective = read(bags([40, 100]), [0, 1], known=known)
    assert {97, 98, 99} < set(kept_of(defective, 0))
    assert (defective.known == 1).sum() == 3


def test_marked_patches_are_drawn_from_all_defects_where_there_are_too_many():
    known = [np.full((5, 8), -2, np.int8), np.full((40, 40), -2, np.int8)]
    known[1][[2, 3, 37, 38]] = 1
    places = []
    for seed in range(20):
        members = np.ones((1, 2), bool)
        _, defective = bags([40, 1600]).read(
            np.array([False, True]), members, seed, "cpu", 2**30, None, known, [np.zeros((5, 8)), np.zeros((40, 40))]
        )
        places += [place for place in kept_of(defective, 0) if known[1].ravel()[place] == 1]
    assert len(places) >= 100
    assert 0.35 < np.mean(np.array(places) < 800) < 0.65


def test_unmarked_patches_are_drawn_at_random_where_nothing_scores_them():
    known = [np.full((5, 8), -2, np.int8), np.full((40, 40), -2, np.int8)]
    _, defective = read(bags([40, 1600]), [0, 1], known=known)
    assert np.mean(np.array(kept_of(defective, 0)) < 200) < 0.5


def test_small_photographs_are_whole_and_repeated_beside_large_ones():
    good, _ = read(bags([4, 100]), [0, 1])
    assert kept_of(good, 0) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    good, _ = read(bags([8, 8]), [0, 1])
    assert kept_of(good, 0) == list(range(8))


@pytest.mark.parametrize(("photographs", "n_kept"), [(10, 10), (20, 10), (24, 8), (40, 5), (100, 5)])
def test_patches_are_left_out_before_photographs(photographs, n_kept):
    """A budget of 200 patches; at most 10 and at least 5 of a photograph are kept."""
    budget, truth = 200 * 2 * CHANNELS, np.arange(photographs) % 2
    source = bags([100] * photographs)
    assert source.n_kept(CHANNELS, budget) == n_kept
    distances = [np.full((10, 10), float(number)) for number in range(photographs)]
    good, defective = read(source, truth, budget, distances=distances)
    numbers = {}
    for label, kept in enumerate((good, defective)):
        assert kept.patches.shape == (min(photographs, 40) // 2, n_kept, CHANNELS)
        numbers[label] = kept.distances[:, 0].int().tolist()
        assert len(set(numbers[label])) == len(numbers[label])
        # Patches, distances and members belong together.
        assert all(number % 2 == label for number in numbers[label])
        assert kept.patches[:, 0, 1].tolist() == [min(number, CLAMP) for number in numbers[label]]
        assert kept.allowed[1].tolist() == [number % 2 == 0 for number in numbers[label]]


@pytest.mark.parametrize(("n_patches", "times"), [(10, 1), (11, 1), (12, 3)])
def test_each_round_keeps_other_patches_where_many_are_left_out(n_patches, times):
    source, opened = bags([n_patches] * 4), []

    def open_(number):
        opened.append(number)
        return source.open_(number)

    settings = Settings(hidden=4, steps=3, images=1, drawn_good=2, drawn_labelled=2)
    PatchHead.fit(Bags(open_, source.n_patches), np.array([0, 0, 1, 1]), np.zeros(4, int), 0, settings=settings)
    # Once more each time for the number of channels.
    assert sorted(opened) == sorted([0, 0, 1, 2, 3] * times)


def test_a_head_finds_a_defect_of_few_patches_that_a_random_share_would_miss(monkeypatch):
    monkeypatch.setattr(module, "MOST_PATCHES", 32)
    rng = np.random.default_rng(0)
    photographs = torch.from_numpy(rng.standard_normal((24, 400, 4)).astype(np.float32))
    labels = np.repeat([0, 1], 12)
    photographs[12:, 200:203, 0] += 7.0
    distances = [photographs[number].norm(dim=1).reshape(20, 20).numpy() for number in range(24)]
    source = Bags(lambda number: lambda: photographs[number].split(128), np.full(24, 400))
    settings = Settings(learning_rate=5e-3, dropout=0.0)
    head = PatchHead.fit(source, labels, inner_folds(labels, 0), 0, settings=settings, distances=distances)
    odds = head.log_odds(photographs.reshape(24, 20, 20, 4).clamp(-CLAMP, CLAMP)).reshape(24, 400)
    top = odds.max(1)
    assert top[labels == 1].min() > top[labels == 0].max()
    assert set(odds[12:].argmax(1)) <= {200, 201, 202}
