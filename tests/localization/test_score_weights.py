import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectloc.errors import DefectlocError
from defectloc.localization.score_weights import (
    EVEN_ODDS_SD,
    by_good,
    by_labels,
    by_reliability,
    reliability_weight,
)

LABELS = [0] * 8 + [1] * 4
CLASS_SCORE = [-3.0, -2, -4, -1, -3, -2, 1, -2, 2, 4, -1, 3]
MAP_SCORE = [1.0, 2, 1, 0, 1, 2, 1, 3, 6, 2, 7, 9]


def test_without_labels_even_odds_lie_three_standard_deviations_above_the_good() -> None:
    weights = by_good([0, 0, 0, 1], [1.0, 2, 3, 50])
    sd = np.std([1, 2, 3])
    assert weights([2 + EVEN_ODDS_SD * sd])[0] == pytest.approx(0)
    assert weights([2 + (EVEN_ODDS_SD + 1) * sd])[0] == pytest.approx(1)
    assert not weights.fallback


def test_without_a_good_image_the_score_is_used_unchanged() -> None:
    weights = by_good([1, 1], [3.0, 4])
    assert weights.fallback
    assert weights([3.0])[0] == 3


def test_equal_good_scores_do_not_divide_by_zero() -> None:
    assert by_good([0, 0], [2.0, 2])([3.0])[0] == 1 - EVEN_ODDS_SD


def test_labels_weigh_both_scores() -> None:
    weights = by_labels(LABELS, CLASS_SCORE, MAP_SCORE)
    assert min(weights.weights) > 0
    score = weights(CLASS_SCORE, MAP_SCORE)
    assert score[:8].max() < score[8:].min()


def test_a_score_that_is_lower_for_defects_weighs_nothing() -> None:
    weights = by_labels(LABELS, CLASS_SCORE, [-value for value in MAP_SCORE])
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


@pytest.mark.parametrize(("n_retained", "expected"), [(10, 1.0), (8, 0.6), (5, 0.0), (1, 0.0)])
def test_reliability_weight_by_the_retained_share(n_retained: int, expected: float) -> None:
    labels, log_odds = [1] * 10 + [0] * 3 + [1], [2.0] * 10 + [-1] * 3 + [-2]
    retained = [1.0] * n_retained + [-1.0] * (10 - n_retained) + [5.0] * 3 + [5.0]
    assert reliability_weight(labels, log_odds, retained) == pytest.approx(expected)


def test_few_detected_defects_give_no_reliability_weight() -> None:
    few = [1] * 4 + [0], [2.0] * 4 + [-1], [2.0] * 4 + [-1]
    assert reliability_weight(*few) == 0
    assert reliability_weight(*few, training_counts=(90, 90)) == 0


def test_training_images_count_as_validation_images_do() -> None:
    detected = [1] * 10, [2.0] * 10, [1.0] * 4 + [-1.0] * 6
    assert reliability_weight(*detected) == 0
    assert reliability_weight(*detected, training_counts=(30, 26)) == pytest.approx(2 * 30 / 40 - 1)


def test_without_reliability_neither_class_score_counts() -> None:
    log_odds = [4.0 if label else -4.0 for label in LABELS]
    weights = by_reliability(LABELS, log_odds, CLASS_SCORE, MAP_SCORE)
    assert weights.weights[:2] == (0, 0)
    assert weights.weights[2] > 0


def test_reliable_log_odds_and_retained_ones_share_the_weight() -> None:
    labels = [0] * 10 + [1] * 10
    log_odds = [-4.0] * 10 + [4.0] * 10
    retained = [-4.0] * 10 + [3.0] * 8 + [-1.0] * 2
    first, second, third = by_reliability(labels, log_odds, retained, range(20)).weights
    assert first / (first + second) == pytest.approx(0.6)
    assert third > 0
