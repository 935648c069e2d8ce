import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from defectloc.errors import DefectlocError
from defectloc.localization.boxes import find_boxes
from defectloc.localization.thresholds import (
    by_balanced_accuracy,
    by_max_escape_rate,
    by_max_overkill_rate,
    from_curve,
    from_labels,
    from_masks,
    good_quantile,
    review_band,
)

LABELS = [0, 0, 0, 0, 1, 0, 1, 1]
SCORES = [-3.0, -2, -1, 0, 1, 2, 3, 4]
validation = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=2, max_size=30)


def test_good_quantile_leaves_the_share_below() -> None:
    maps = [np.arange(60.0).reshape(6, 10), np.arange(60.0, 100).reshape(4, 10)]
    assert good_quantile(maps, 0.9, fallback=0).value == 89
    assert good_quantile(maps, 1, fallback=0).value == 99
    assert len(find_boxes(maps[1], good_quantile(maps, 1, fallback=0).value)) == 0


def test_from_masks_finds_the_best_f1_of_all_cuts() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((8, 9)) > 0.7, np.zeros((5, 4), bool)]
    maps = [np.round(rng.normal(size=mask.shape) + 2 * mask, 1) for mask in masks]
    pixels, truth = (np.concatenate([each.ravel() for each in group]) for group in (maps, masks))
    best = max(f1_score(truth, pixels > cut) for cut in np.unique(pixels) - 0.05)
    chosen = from_masks(maps, masks, fallback=9)
    assert f1_score(truth, pixels > chosen.value) == pytest.approx(best)
    assert not chosen.fallback


def test_from_labels_cuts_between_the_hottest_pixels() -> None:
    maps = [np.full((4, 5), 0.2), np.full((3, 3), 0.3), np.eye(4)]
    assert from_labels(maps, [0, 0, 1], fallback=0).value == pytest.approx(0.65)


def test_from_curve_takes_the_middle_of_the_best_run() -> None:
    curve = {0.1: 0.2, 0.2: 0.5, 0.3: 0.5, 0.4: 0.5, 0.5: None}
    assert from_curve(list(curve), lambda t: curve[t], fallback=0.9).value == 0.3
    assert from_curve([0.1, 0.2], lambda _: None, fallback=0.9).fallback


def test_decision_thresholds_lie_between_neighbouring_scores() -> None:
    assert by_balanced_accuracy(LABELS, SCORES, fallback=0).value == 0.5
    assert by_max_escape_rate(LABELS, SCORES, 0, fallback=0).value == 0.5
    assert by_max_escape_rate(LABELS, SCORES, 0.34, fallback=0).value == 2.5
    assert by_max_overkill_rate(LABELS, SCORES, 0, fallback=0).value == 2.5
    assert by_max_overkill_rate(LABELS, SCORES, 0.2, fallback=0).value == 0.5


@settings(deadline=None, max_examples=60)
@given(validation)
def test_balanced_accuracy_is_the_best_of_all_cuts(images: list[tuple[int, int]]) -> None:
    labels, scores = np.array(images).T
    chosen = by_balanced_accuracy(labels, scores, fallback=0.25)
    if len(set(labels)) == 1:
        assert chosen.fallback
        assert chosen.value == 0.25
        return
    best = max(balanced_accuracy_score(labels, scores > cut) for cut in np.arange(-5.5, 6))
    if chosen.fallback:
        assert best == pytest.approx(0.5)
    else:
        assert balanced_accuracy_score(labels, scores > chosen.value) == pytest.approx(best)


@settings(deadline=None, max_examples=60)
@given(validation, st.sampled_from([0, 0.1, 0.25, 0.5, 1]))
def test_rates_hold_and_the_next_threshold_would_break_them(images: list[tuple[int, int]], rate: float) -> None:
    labels, scores = np.array(images).T
    cuts = np.arange(-5.5, 6)
    if (labels == 1).any():
        value = by_max_escape_rate(labels, scores, rate, fallback=0).value
        allowed = [cut for cut in cuts if (scores[labels == 1] <= cut).mean() <= rate]
        assert (scores[labels == 1] <= value).mean() <= rate
        assert (scores > value).sum() == (scores > max(allowed)).sum()
    if (labels == 0).any():
        value = by_max_overkill_rate(labels, scores, rate, fallback=0).value
        allowed = [cut for cut in cuts if (scores[labels == 0] > cut).mean() <= rate]
        assert (scores[labels == 0] > value).mean() <= rate
        assert (scores > value).sum() == (scores > min(allowed)).sum()


def test_review_band_sends_the_mixed_scores_to_a_human() -> None:
    band = review_band(LABELS, SCORES, 0, 0, fallback=0)
    assert (band.low, band.high) == (0.5, 2.5)
    assert band.verdicts(SCORES).tolist() == ["good"] * 4 + ["review"] * 2 + ["defective"] * 2
    empty = review_band([0, 0, 1, 1], [0, 1, 3, 4], 0, 0, fallback=0)
    assert empty.low == empty.high == 2
    assert "review" not in empty.verdicts([0, 1, 2, 3, 4])


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_one_class_or_none_falls_back_and_says_to_what(labels: list[int]) -> None:
    scores = [1.0, 2.0][: len(labels)]
    chosen = [by_balanced_accuracy(labels, scores, 0.75), review_band(labels, scores, 0, 0, 0.75)]
    if 1 not in labels:
        chosen.append(by_max_escape_rate(labels, scores, 0, 0.75))
        chosen.append(from_masks([np.eye(3)], [np.zeros((3, 3))], 0.75))
    if 0 not in labels:
        chosen.append(by_max_overkill_rate(labels, scores, 0, 0.75))
        chosen.append(good_quantile([], 0.9, 0.75))
    for each in chosen:
        assert each.fallback
        assert "0.75" in each.sentence
        assert 0.75 in {getattr(each, "value", None), getattr(each, "low", None)}


def test_equal_scores_fall_back() -> None:
    assert by_balanced_accuracy([0, 1], [1, 1], 0.5).fallback
    assert by_balanced_accuracy([1, 0], [1, 2], 0.5).fallback


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: by_balanced_accuracy([0, 1], [np.nan, 1], 0),
        lambda: by_balanced_accuracy([0, 2], [0, 1], 0),
        lambda: by_balanced_accuracy([0], [0, 1], 0),
        lambda: by_max_escape_rate(LABELS, SCORES, 1.5, 0),
        lambda: by_max_overkill_rate(LABELS, SCORES, -0.5, 0),
        lambda: good_quantile([np.eye(3)], 95, 0),
        lambda: from_masks([np.eye(3)], [np.eye(4)], 0),
    ):
        with pytest.raises(DefectlocError):
            call()
