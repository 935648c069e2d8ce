"""From the scores of an image to log-odds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectloc.errors import DefectlocError
from defectloc.localization.scores import EVEN, HOTTEST, by_good, by_labels, by_trust, hottest, trust

LABELS = [0] * 8 + [1] * 4
EVIDENCE = [-3.0, -2, -4, -1, -3, -2, 1, -2, 2, 4, -1, 3]
UNUSUAL = [1.0, 2, 1, 0, 1, 2, 1, 3, 6, 2, 7, 9]


def test_hottest_is_the_mean_of_the_largest_patches() -> None:
    maps = np.zeros((2, 4, 5))
    maps[1, 2] = [1, 2, 3, 4, 5]
    maps[1, 0, 0] = 10
    assert HOTTEST == 5
    assert hottest(maps).tolist() == [0, (10 + 5 + 4 + 3 + 2) / 5]
    # A map of fewer patches gives the mean of them all.
    assert hottest(np.array([[[1.0, 2]]])).tolist() == [1.5]


def test_without_labels_the_even_chance_lies_above_the_good() -> None:
    weights = by_good([0, 0, 0, 1], [1.0, 2, 3, 50])
    sd = np.std([1, 2, 3])
    assert weights([2 + EVEN * sd])[0] == pytest.approx(0)
    assert weights([2 + (EVEN + 1) * sd])[0] == pytest.approx(1)
    assert not weights.fallback


def test_no_good_image_leaves_the_score_as_it_is() -> None:
    weights = by_good([1, 1], [3.0, 4])
    assert weights.fallback
    assert weights([3.0])[0] == 3


def test_equal_good_scores_do_not_divide_by_zero() -> None:
    assert by_good([0, 0], [2.0, 2])([3.0])[0] == 1 - EVEN


def test_labels_weigh_both_scores() -> None:
    weights = by_labels(LABELS, EVIDENCE, UNUSUAL)
    assert min(weights.weights) > 0
    score = weights(EVIDENCE, UNUSUAL)
    assert score[:8].max() < score[8:].min()


def test_a_score_that_points_the_wrong_way_weighs_nothing() -> None:
    weights = by_labels(LABELS, EVIDENCE, [-value for value in UNUSUAL])
    assert weights.weights[1] == 0
    assert weights.weights[0] > 0


def test_one_class_adds_the_class_log_odds() -> None:
    weights = by_labels([0, 0, 0], [-1.0, -2, -3], [1.0, 2, 3])
    assert weights.fallback
    assert "one class" in weights.sentence
    alone = by_good([0, 0, 0], [1.0, 2, 3])
    assert weights([0.5], [4.0])[0] == pytest.approx(0.5 + alone([4.0])[0])


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.booleans()), min_size=2, max_size=20))
def test_no_weight_is_negative(rows: list[tuple[float, float, bool]]) -> None:
    first, second, labels = (list(column) for column in zip(*rows, strict=True))
    weights = by_labels([int(label) for label in labels], first, second)
    assert min(weights.weights) >= 0
    assert np.isfinite(weights(first, second)).all()


def test_nan_is_refused() -> None:
    with pytest.raises(DefectlocError, match="NaN"):
        by_labels([0, 1], [np.nan, 1], [0, 1])


@pytest.mark.parametrize(("stay", "expected"), [(10, 1.0), (8, 0.6), (5, 0.0), (1, 0.0)])
def test_trust_by_what_stays(stay: int, expected: float) -> None:
    labels, log_odds = [1] * 10 + [0] * 3 + [1], [2.0] * 10 + [-1] * 3 + [-2]
    kept = [1.0] * stay + [-1.0] * (10 - stay) + [5.0] * 3 + [5.0]
    assert trust(labels, log_odds, kept) == pytest.approx(expected)


def test_few_defects_found_earn_no_trust() -> None:
    few = [1] * 4 + [0], [2.0] * 4 + [-1], [2.0] * 4 + [-1]
    assert trust(*few) == 0
    assert trust(*few, taught=(90, 90)) == 0


def test_training_images_count_as_validation_images_do() -> None:
    found = [1] * 10, [2.0] * 10, [1.0] * 4 + [-1.0] * 6
    assert trust(*found) == 0
    assert trust(*found, taught=(30, 26)) == pytest.approx(2 * 30 / 40 - 1)


def test_without_trust_neither_kind_of_class_evidence_counts() -> None:
    log_odds = [4.0 if label else -4.0 for label in LABELS]
    weights = by_trust(LABELS, log_odds, EVIDENCE, UNUSUAL)
    assert weights.weights[:2] == [0, 0]
    assert weights.weights[2] > 0


def test_trusted_evidence_is_shared_between_both_kinds() -> None:
    labels = [0] * 10 + [1] * 10
    log_odds = [-4.0] * 10 + [4.0] * 10
    kept = [-4.0] * 10 + [3.0] * 8 + [-1.0] * 2
    first, second, third = by_trust(labels, log_odds, kept, range(20)).weights
    assert first / (first + second) == pytest.approx(0.6)
    assert third > 0
