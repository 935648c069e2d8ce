import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from defectloc.errors import DefectlocError
from defectloc.evaluation.image import RATES, bootstrap_intervals, image_scores, scores_by_defect_type, weighted_rates

LABELS = [0, 0, 0, 1, 1]
SCORES = [-2.0, -1, 1, 0.5, 3]
PREDICTED = [0, 0, 1, 1, 1]


def test_by_hand() -> None:
    assert image_scores(LABELS, SCORES, PREDICTED) == {
        "balanced_accuracy": pytest.approx(5 / 6),
        "accuracy": 0.8,
        "auroc": pytest.approx(5 / 6),
        "average_precision": pytest.approx((1 + 2 / 3) / 2),
        "f1_max": pytest.approx(0.8),
        "tpr_at_5_fpr": 0.5,
        "confusion": {"tp": 2, "fn": 0, "fp": 1, "tn": 2},
        "escapes": 0,
        "overkill": 1,
    }


def test_five_percent_is_allowed_and_more_is_not() -> None:
    labels = [0] * 20 + [1] * 4
    scores = [*range(20), 18.5, 17.5, 30, 31]
    assert image_scores(labels, scores, labels)["tpr_at_5_fpr"] == 0.75


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_leaves_the_rest_none(label: int) -> None:
    scores = image_scores([label] * 3, [1, 2, 3], [0, 1, 1])
    assert scores["accuracy"] == pytest.approx([1 / 3, 2 / 3][label])
    assert [scores[name] for name in RATES if name != "accuracy"] == [None] * 5
    assert (scores["escapes"], scores["overkill"]) == ((1, None) if label else (None, 2))
    assert bootstrap_intervals([label] * 3, [1, 2, 3], [0, 1, 1]) == dict.fromkeys(RATES)


def test_without_images_nothing_is_measured() -> None:
    scores = image_scores([], [], [])
    assert scores.pop("confusion") == {"tp": 0, "fn": 0, "fp": 0, "tn": 0}
    assert set(scores.values()) == {None}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4), st.integers(0, 3)), min_size=4, max_size=40))
def test_weighted_rates_equal_scikit_learn_on_repeated_images(images: list[tuple[int, int, int]]) -> None:
    labels, scores, weights = np.array([*images, (0, 0, 1), (1, 1, 1)]).T
    decided = scores > 0
    rates = weighted_rates(labels == 1, scores, decided, weights[None])
    labels, scores, decided = (np.repeat(each, weights) for each in (labels, scores, decided))
    assert {name: pytest.approx(rate[0]) for name, rate in rates.items()} == {
        name: value for name, value in image_scores(labels, scores, decided).items() if name in RATES
    }
    assert rates["auroc"][0] == pytest.approx(metrics.roc_auc_score(labels, scores))
    cuts = [metrics.f1_score(labels, scores > cut) for cut in np.arange(-5.5, 5)]
    assert rates["f1_max"][0] == pytest.approx(max(cuts))


def test_ranking_scores_do_not_change_under_a_monotone_map() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    scores = np.round(rng.normal(size=50) + labels, 1)
    assert image_scores(labels, scores, labels) == image_scores(labels, np.exp(scores) * 3 - 7, labels)


def test_intervals_hold_the_score_and_repeat_with_the_seed() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 40])
    scores = rng.normal(size=120) + 1.5 * labels
    measured = image_scores(labels, scores, scores > 0.75)
    intervals = bootstrap_intervals(labels, scores, scores > 0.75)
    assert set(intervals) == set(RATES)
    for name, (low, high) in intervals.items():
        assert 0 <= low <= measured[name] <= high <= 1
        assert 0 < high - low < 0.5
    assert intervals == bootstrap_intervals(labels, scores, scores > 0.75)
    assert intervals != bootstrap_intervals(labels, scores, scores > 0.75, seed=1)
    # Of the share of caught defects the binomial error is known: 1.96 standard errors to each side.
    half = 1.96 * np.sqrt(measured["accuracy"] * (1 - measured["accuracy"]) / 120)
    assert np.diff(intervals["accuracy"])[0] / 2 == pytest.approx(half, rel=0.25)


def test_defect_types_are_counted_apart() -> None:
    table = scores_by_defect_type(["good", "scratch", "good", "crack", "scratch"], [0, 1, 0, 1, 1], [0, 1, 1, 1, 0])
    assert table.to_dict("list") == {
        "defect_type": ["good", "crack", "scratch"],
        "label": [0, 1, 1],
        "n": [2, 1, 2],
        "correct": [1, 1, 1],
        "rate": [0.5, 1.0, 0.5],
    }
    assert len(scores_by_defect_type([], [], [])) == 0


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: image_scores([0, 1], [np.nan, 1], [0, 1]),
        lambda: image_scores([0, 1], [0, 1], [0]),
        lambda: image_scores([0, 1], [0, 1], [0, 0.5]),
        lambda: image_scores([0, 3], [0, 1], [0, 1]),
        lambda: scores_by_defect_type(["good"], [0, 1], [0, 1]),
        lambda: bootstrap_intervals([0, 1], [0, 1], [0, 1], level=95),
    ):
        with pytest.raises(DefectlocError):
            call()
