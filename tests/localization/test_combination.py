import json

import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.localization.combination import Combination

LABELS, FOLDS = np.tile([0, 0, 1, 1], 3), np.repeat([0, 1, 2], 4)


def maps(scores: np.ndarray) -> np.ndarray:
    """Make maps `(N, 4, 5)` of background 0 whose five largest values are an image's score."""
    found = np.zeros((len(scores), 4, 5))
    found[:, 0] = np.asarray(scores)[:, None]
    return found


RIGHT, BLIND = np.where(LABELS == 1, 3.0, 1.0), np.tile([1.0, 3.0], 6)


def test_the_one_that_knows_gets_the_weight():
    by_head = Combination.fit((0.0, 1.0), LABELS, FOLDS, maps(RIGHT / 8), maps(4 * BLIND))
    assert (by_head.head_weight, by_head.bank_weight) == (1.0, 0.0)
    by_bank = Combination.fit((0.0, 1.0), LABELS, FOLDS, maps(9 * BLIND), maps(RIGHT))
    assert (by_bank.head_weight, by_bank.bank_weight) == (0.0, 1.0)


def test_where_both_know_as_much_the_prior_decides():
    found = Combination.fit((0.0, 1.0), LABELS, FOLDS, maps(RIGHT), maps(RIGHT))
    assert (found.head_weight, found.bank_weight) == (1.0, 0.5)


def test_scores_are_compared_within_a_fold():
    # Over all images neither ranks anything: each member's log-odds have an offset of their own.
    offset = np.repeat([0.0, 40.0, 80.0], 4)
    found = Combination.fit((0.0, 1.0), LABELS, FOLDS, maps(RIGHT / 8 + offset), maps(4 * BLIND))
    assert (found.head_weight, found.bank_weight) == (1.0, 0.0)


@pytest.mark.parametrize("labels", [None, np.zeros(12, int), np.ones(12, int)])
def test_with_nothing_to_choose_by_both_count_alike(labels):
    found = Combination.fit((2.0, 4.0), labels, FOLDS, maps(RIGHT), maps(RIGHT))
    assert (found.head_weight, found.bank_weight, found.mean, found.sd) == (1.0, 1.0, 2.0, 4.0)
    assert "too few defective images" in found.message


def test_a_few_defects_choose_nothing():
    labels = np.where(np.arange(12) < 3, 0, LABELS)
    kept = np.cumsum(labels) <= 4
    found = Combination.fit((0.0, 1.0), labels[kept], FOLDS[kept], maps(RIGHT)[kept], maps(20 * BLIND)[kept])
    assert (found.head_weight, found.bank_weight) == (1.0, 1.0)


def test_the_map_is_the_weighted_sum_of_log_odds_and_saturated_distances():
    combination = Combination(1.0, 0.5, mean=2.0, sd=4.0, message="", saturation=6.0)
    log_odds, distances = np.arange(20.0).reshape(1, 4, 5), np.full((1, 4, 5), 10.0)
    found = combination.apply(log_odds, distances)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, log_odds + 0.5 * 6 * np.tanh((10 - 2) / 4 / 6), rtol=1e-6)


def test_large_distances_saturate_and_keep_their_order():
    combination = Combination(0.0, 1.0, mean=0.0, sd=1.0, message="", saturation=8.0)
    distances = np.array([[[-1.0, 0.0, 1.0, 4.0, 8.0, 16.0, 40.0]]])
    found = combination.apply(np.zeros_like(distances), distances)[0, 0]
    assert (np.diff(found) > 0).all()
    assert found[-1] <= 8
    np.testing.assert_allclose(found[:3], distances[0, 0, :3], atol=0.01)


def test_equal_distances_on_good_images_do_not_divide_by_zero():
    found = Combination.fit((2.0, 0.0))
    np.testing.assert_allclose(
        found.apply(np.zeros((1, 2, 2)), np.full((1, 2, 2), 5.0)), 10 * np.tanh(3 / 10), rtol=1e-6
    )


def test_written_and_read_it_is_the_same():
    combination = Combination.fit((1.0, 2.0), LABELS, FOLDS, maps(RIGHT), maps(BLIND))
    assert Combination.from_json(json.loads(json.dumps(combination.to_json()))) == combination
    with pytest.raises(DefectlocError, match="no combination"):
        Combination.from_json({"head_weight": 1.0})


def test_maps_that_do_not_belong_together_are_refused():
    with pytest.raises(DefectlocError, match="do not belong to 12 labels"):
        Combination.fit((0.0, 1.0), LABELS, FOLDS, maps(RIGHT), maps(RIGHT)[:, :2])
    with pytest.raises(DefectlocError, match="finite"):
        Combination(1.0, 1.0, 0.0, 1.0, "").apply(np.full((1, 2, 2), np.nan), np.zeros((1, 2, 2)))


def test_maps_of_several_shapes_choose_as_those_of_one():
    rng = np.random.default_rng(0)
    labels, folds = np.repeat([0, 1], 12), np.arange(24) % 3
    head, bank = rng.random((24, 4, 4)), rng.random((24, 4, 4))
    head[labels == 1, 0, 0] += 3
    whole = Combination.fit((0.0, 1.0), labels, folds, head, bank)
    # The same values in another shape give the same scores.
    ragged = [[each.reshape(2, 8) if number % 2 else each for number, each in enumerate(maps)] for maps in (head, bank)]
    assert Combination.fit((0.0, 1.0), labels, folds, *ragged) == whole
    with pytest.raises(DefectlocError, match="do not belong"):
        Combination.fit((0.0, 1.0), labels, folds, ragged[0], ragged[1][::-1])
