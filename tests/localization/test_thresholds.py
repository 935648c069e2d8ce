import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from defectloc.errors import DefectlocError
from defectloc.localization.thresholds import (
    SLACK,
    NoThresholdError,
    below,
    by_balanced_accuracy,
    by_max_escape_rate,
    by_max_overkill_rate,
    middle,
    review_band,
)

LABELS = [0, 0, 0, 0, 1, 0, 1, 1]
SCORES = [-3.0, -2, -1, 0, 1, 2, 3, 4]
validation = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=2, max_size=30)


def test_thresholds_lie_between_neighbouring_scores() -> None:
    assert by_balanced_accuracy(LABELS, SCORES).value == 0.5
    assert by_max_escape_rate(LABELS, SCORES, 0).value == 0.5
    assert by_max_escape_rate(LABELS, SCORES, 0.34).value == 2.5
    assert by_max_overkill_rate(LABELS, SCORES, 0).value == 2.5
    assert by_max_overkill_rate(LABELS, SCORES, 0.2).value == 0.5


@settings(deadline=None, max_examples=60)
@given(validation)
def test_balanced_accuracy_is_about_the_best_of_all_cuts(images: list[tuple[int, int]]) -> None:
    labels, scores = np.array(images).T
    if len(set(labels)) == 1:
        with pytest.raises(NoThresholdError, match="has no"):
            by_balanced_accuracy(labels, scores)
        return
    best = max(balanced_accuracy_score(labels, scores > cut) for cut in np.arange(-5.5, 6))
    try:
        chosen = by_balanced_accuracy(labels, scores)
    except NoThresholdError:
        assert best == pytest.approx(0.5)
    else:
        assert best - SLACK - 1e-9 <= balanced_accuracy_score(labels, scores > chosen.value) <= best + 1e-9


def test_of_cuts_that_count_alike_the_middle_of_the_widest_gap_is_taken() -> None:
    # Below 0.5 a good image of a hundred is rejected; the cut that rejects it lies in the wide gap up to 10.
    labels = [0] * 100 + [1] * 100
    scores = [*np.linspace(-2, -1, 99), 0.5, *np.linspace(10, 11, 99), 0.6]
    chosen = by_balanced_accuracy(labels, scores)
    assert chosen.value == pytest.approx((-1 + 10) / 2)
    assert balanced_accuracy_score(labels, np.array(scores) > chosen.value) == pytest.approx(0.995)
    assert "0.995" in chosen.sentence
    # A threshold may be a score: that image is good.
    assert by_balanced_accuracy([0] * 200 + [1], [0.0] * 199 + [1.0, 2.0]).value == 1.0


@settings(deadline=None, max_examples=60)
@given(validation, st.sampled_from([0, 0.1, 0.25, 0.5, 1]))
def test_rates_hold_and_the_next_threshold_would_break_them(images: list[tuple[int, int]], rate: float) -> None:
    labels, scores = np.array(images).T
    cuts = np.arange(-5.5, 6)
    if (labels == 1).any():
        value = by_max_escape_rate(labels, scores, rate).value
        allowed = [cut for cut in cuts if (scores[labels == 1] <= cut).mean() <= rate]
        assert (scores[labels == 1] <= value).mean() <= rate
        assert (scores > value).sum() == (scores > max(allowed)).sum()
    if (labels == 0).any():
        value = by_max_overkill_rate(labels, scores, rate).value
        allowed = [cut for cut in cuts if (scores[labels == 0] > cut).mean() <= rate]
        assert (scores[labels == 0] > value).mean() <= rate
        assert (scores > value).sum() == (scores > min(allowed)).sum()


def test_review_band_holds_the_mixed_scores() -> None:
    band = review_band(LABELS, SCORES, 0, 0)
    assert (band.value, band.upper) == (0.5, 2.5)
    empty = review_band([0, 0, 1, 1], [0, 1, 3, 4], 0, 0)
    assert empty.value == empty.upper == 2


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_one_class_or_none_tells_no_threshold(labels: list[int]) -> None:
    scores = [1.0, 2.0][: len(labels)]
    calls = [lambda: by_balanced_accuracy(labels, scores), lambda: review_band(labels, scores, 0, 0)]
    if 1 not in labels:
        calls.append(lambda: by_max_escape_rate(labels, scores, 0))
    if 0 not in labels:
        calls.append(lambda: by_max_overkill_rate(labels, scores, 0))
    for call in calls:
        with pytest.raises(NoThresholdError, match="The validation split has no"):
            call()


def test_scores_no_better_than_chance_tell_no_threshold() -> None:
    for labels, scores in (([0, 1], [1, 1]), ([1, 0], [1, 2])):
        with pytest.raises(NoThresholdError, match="chance"):
            by_balanced_accuracy(labels, scores)


def test_a_middle_leaves_the_upper_value_above_it() -> None:
    assert middle(1, 3) == 2
    assert middle(1, np.nextafter(1, 2)) == 1
    assert below(3, [5, 1, 2]) == 2.5
    assert below(3, [3, 5]) == pytest.approx(3)
    assert below(3, [3, 5]) < 3


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: by_balanced_accuracy([0, 1], [np.nan, 1]),
        lambda: by_balanced_accuracy([0, 2], [0, 1]),
        lambda: by_balanced_accuracy([0], [0, 1]),
        lambda: by_max_escape_rate(LABELS, SCORES, 1.5),
        lambda: by_max_overkill_rate(LABELS, SCORES, -0.5),
    ):
        with pytest.raises(DefectlocError):
            call()
