import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectloc.errors import DefectlocError
from defectloc.localization.score_scale import ScoreScale, by_good

LABELS = [0] * 8 + [1] * 4
MAP_SCORE = [1.0, 2, 1, 0, 1, 2, 1, 3, 6, 2, 7, 9]


def test_by_default_a_score_is_what_it_is():
    np.testing.assert_array_equal(ScoreScale()([1.0, -2.0]), [1, -2])


def test_of_few_good_images_none_lies_above_0():
    scale = by_good(LABELS, MAP_SCORE)
    good = np.array(MAP_SCORE[:8])
    np.testing.assert_allclose(scale(MAP_SCORE), (np.array(MAP_SCORE) - 3) / good.std())
    assert scale(good).max() == 0
    assert not scale.fallback


def test_of_many_good_images_one_in_twenty_lies_above_0():
    good = np.random.default_rng(0).normal(5, 2, 100)
    found = by_good(np.zeros(100), good)(good)
    assert (found > 0).sum() == 5
    assert found.std() == pytest.approx(1)


def test_defective_images_change_nothing():
    assert by_good(LABELS, MAP_SCORE) == by_good(LABELS[:8], MAP_SCORE[:8])


def test_equal_good_scores_count_one_by_one():
    scale = by_good([0, 0, 0], [2.0, 2, 2])
    np.testing.assert_allclose(scale([2.0, 4]), [0, 2])


def test_without_a_good_image_the_value_is_unchanged_and_said_so():
    scale = by_good([1, 1], [1.0, 2])
    assert scale.fallback
    assert "no good image" in scale.sentence
    np.testing.assert_array_equal(scale([1.0, 2]), [1, 2])


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0.1, 10), st.floats(-10, 10))
def test_scale_and_shift_of_the_map_do_not_matter(values, factor, shift):
    values = np.round(values, 3)
    labels = np.zeros(len(values))
    moved = values * factor + shift
    if np.ptp(values) > 0:
        np.testing.assert_allclose(by_good(labels, moved)(moved), by_good(labels, values)(values), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinities_are_refused(bad):
    with pytest.raises(DefectlocError):
        by_good([0, 0], [1.0, bad])
