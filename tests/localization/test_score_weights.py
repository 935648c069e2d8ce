import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from defectloc.errors import DefectlocError
from defectloc.localization.score_weights import CLASS_ALONE, ScoreWeights, by_good, by_labels

LABELS = [0] * 8 + [1] * 4
MAP_SCORE = [1.0, 2, 1, 0, 1, 2, 1, 3, 6, 2, 7, 9]
LOG_ODDS = [-3.0, -2, -4, -1, -3, -2, 1, -2, 2, 4, -1, 3]


def of_map(weights, values):
    return weights(values, None)


def test_the_class_score_is_the_log_odds():
    np.testing.assert_array_equal(CLASS_ALONE(None, [1.0, -2.0]), [1, -2])


def test_a_score_is_a_weighted_sum():
    np.testing.assert_array_equal(ScoreWeights(2.0, 3.0, 1.0, "")([1.0, 0.0], [1.0, -1.0]), [6, -2])


def test_scores_that_count_nothing_leave_the_bias():
    np.testing.assert_array_equal(ScoreWeights(0.0, 0.0, 2.0, "")([1.0, 5.0, 3.0], None), [2, 2, 2])


def test_labels_weigh_both_scores():
    weights = by_labels(LABELS, MAP_SCORE, LOG_ODDS)
    assert min(weights.of_map, weights.of_class) > 0
    score = weights(MAP_SCORE, LOG_ODDS)
    # Neither of the two alone separates the classes.
    assert score[:8].max() < score[8:].min()


def test_many_labels_of_two_scores_that_tell_the_classes_alike_count_alike():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 5000)
    first, second = (rng.normal(size=10000) + 2 * labels for _ in range(2))
    weights = by_labels(labels, first, 100 * second)
    assert weights.of_map == pytest.approx(100 * weights.of_class, rel=0.1)


def test_few_labels_leave_most_to_the_map():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    values = rng.normal(size=20) + labels
    weights = by_labels(labels, values, values)
    assert weights.of_class == pytest.approx(weights.of_map / 4, rel=1e-3)


def test_a_score_that_tells_nothing_hardly_counts():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 500)
    noise, good = rng.normal(size=1000), rng.normal(size=1000) + 3 * labels
    weights = by_labels(labels, noise, good)
    assert weights.of_map < 0.1 * weights.of_class


def test_a_score_that_is_lower_for_defects_weighs_nothing():
    weights = by_labels(LABELS, [-value for value in MAP_SCORE], LOG_ODDS)
    assert weights.of_map == 0
    assert weights.of_class > 0


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=20))
@example([(-1e-308, 0.0), (0.0, 0.0)])
def test_no_weight_is_negative(rows):
    first, second = (list(column) for column in zip(*rows, strict=True))
    weights = by_labels([0, *[1] * (len(rows) - 1)], first, second)
    assert min(weights.of_map, weights.of_class) >= 0
    assert np.isfinite(weights(first, second)).all()


def test_of_few_good_images_none_lies_above_0():
    scale = by_good(LABELS, MAP_SCORE)
    good = np.array(MAP_SCORE[:8])
    np.testing.assert_allclose(of_map(scale, MAP_SCORE), (np.array(MAP_SCORE) - 3) / good.std())
    assert of_map(scale, good).max() == 0
    assert not scale.fallback


def test_of_many_good_images_one_in_twenty_lies_above_0():
    good = np.random.default_rng(0).normal(5, 2, 100)
    found = of_map(by_good(np.zeros(100), good), good)
    assert (found > 0).sum() == 5
    assert found.std() == pytest.approx(1)


def test_defective_images_change_nothing():
    assert by_good(LABELS, MAP_SCORE) == by_good(LABELS[:8], MAP_SCORE[:8])


def test_equal_good_scores_count_one_by_one():
    scale = by_good([0, 0, 0], [2.0, 2, 2])
    np.testing.assert_allclose(of_map(scale, [2.0, 4]), [0, 2])


def test_without_a_good_image_the_value_is_unchanged_and_said_so():
    scale = by_good([1, 1], [1.0, 2])
    assert scale.fallback
    assert "no good image" in scale.sentence
    np.testing.assert_array_equal(of_map(scale, [1.0, 2]), [1, 2])


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0.1, 10), st.floats(-10, 10))
def test_scale_and_shift_of_the_map_do_not_matter(values, factor, shift):
    values = np.round(values, 3)
    labels = np.zeros(len(values))
    moved = values * factor + shift
    if np.ptp(values) > 0:
        expected = of_map(by_good(labels, values), values)
        np.testing.assert_allclose(of_map(by_good(labels, moved), moved), expected, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinities_are_refused(bad):
    with pytest.raises(DefectlocError):
        by_good([0, 0], [1.0, bad])
    with pytest.raises(DefectlocError):
        by_labels([0, 1], [1.0, 2], [1.0, bad])
