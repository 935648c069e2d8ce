import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from defectloc.errors import DefectlocError
from defectloc.evaluation.image import MISSED, RATES, good_passed, image_scores, intervals, scores_by_defect_type

LABELS = [0, 0, 0, 1, 1]
SCORES = [-2.0, -1, 1, 0.5, 3]
PREDICTED = [0, 0, 1, 1, 1]


def test_by_hand() -> None:
    assert image_scores(LABELS, SCORES, PREDICTED) == {
        "balanced_accuracy": pytest.approx(5 / 6),
        "accuracy": 0.8,
        "recall": 1.0,
        "specificity": pytest.approx(2 / 3),
        "auroc": pytest.approx(5 / 6),
        "average_precision": pytest.approx((1 + 2 / 3) / 2),
        "f1_max": pytest.approx(0.8),
        "tpr_at_5_fpr": 0.5,
        "good_passed_at_missed_0": pytest.approx(2 / 3),
        "good_passed_at_missed_1": pytest.approx(2 / 3),
        "good_passed_at_missed_5": pytest.approx(2 / 3),
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
    known = {"accuracy": [1 / 3, 2 / 3][label], ("specificity", "recall")[label]: [1 / 3, 2 / 3][label]}
    assert {name: scores[name] for name in RATES} == pytest.approx(dict.fromkeys(RATES) | known)
    assert (scores["escapes"], scores["overkill"]) == ((1, None) if label else (None, 2))
    found = intervals([label] * 3, [1, 2, 3], [0, 1, 1])
    assert [name for name in RATES if found[name] is not None] == [("specificity", "recall")[label]]


def test_without_decisions_only_the_ranking_is_scored() -> None:
    scores, ranked = image_scores(LABELS, SCORES, PREDICTED), image_scores(LABELS, SCORES, None)
    decided = ("balanced_accuracy", "accuracy", "recall", "specificity", "confusion", "escapes", "overkill")
    assert ranked == scores | dict.fromkeys(decided)
    found = intervals(LABELS, SCORES, None)
    assert {name for name, interval in found.items() if interval is not None} == {"auroc", "average_precision"}


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=1, max_size=40),
    st.sampled_from([0, 0.05, 0.3, 1]),
)
def test_good_parts_passed_agree_with_the_roc_curve(images: list[tuple[int, int]], missed: float) -> None:
    labels, scores = np.array([*images, (0, 0), (1, 1)]).T
    fpr, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    assert good_passed(labels, scores, missed) == pytest.approx(1 - fpr[tpr >= 1 - missed - 1e-9].min())


def test_good_parts_passed_by_hand() -> None:
    labels = [1] * 100 + [0] * 4
    scores = [*range(100), -1, 0, 4.5, 5]
    found = image_scores(labels, scores, labels)
    # A good part that scores as the defect that must be found is rejected with it.
    assert [found[name] for name in MISSED] == [0.25, 0.5, 0.75]
    assert good_passed([1, 1], [1, 2], 0) is None


def test_without_images_nothing_is_measured() -> None:
    scores = image_scores([], [], [])
    assert scores.pop("confusion") == {"tp": 0, "fn": 0, "fp": 0, "tn": 0}
    assert set(scores.values()) == {None}


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), max_size=40))
def test_scores_agree_with_scikit_learn(images: list[tuple[int, int]]) -> None:
    labels, scores = np.array([*images, (0, 0), (1, 1)]).T
    found = image_scores(labels, scores, scores > 0)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, scores > 0))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, scores > 0))
    assert found["recall"] == pytest.approx(metrics.recall_score(labels, scores > 0))
    assert found["specificity"] == pytest.approx(metrics.recall_score(labels, scores > 0, pos_label=0))
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(labels, scores))
    cuts = [metrics.f1_score(labels, scores > cut) for cut in np.arange(-5.5, 5)]
    assert found["f1_max"] == pytest.approx(max(cuts))


def test_ranking_scores_do_not_change_under_a_monotone_map() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    scores = np.round(rng.normal(size=50) + labels, 1)
    assert image_scores(labels, scores, labels) == image_scores(labels, np.exp(scores) * 3 - 7, labels)


def test_intervals_hold_the_score() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 40])
    scores = rng.normal(size=120) + 1.5 * labels
    measured = image_scores(labels, scores, scores > 0.75)
    found = intervals(labels, scores, scores > 0.75)
    assert set(found) == set(RATES)
    # Their threshold is chosen on the images that they are measured on.
    assert {name for name in RATES if found[name] is None} == {"f1_max", "tpr_at_5_fpr", *MISSED}
    for name, interval in found.items():
        if interval is not None:
            low, high = interval
            assert 0 <= low <= measured[name] <= high <= 1
            assert 0 < high - low < 0.4
    # Of the share of right decisions the binomial error is known: 1.96 standard errors to each side.
    half = 1.96 * np.sqrt(measured["accuracy"] * (1 - measured["accuracy"]) / 120)
    assert np.diff(found["accuracy"])[0] / 2 == pytest.approx(half, rel=0.25)
    assert np.diff(found["recall"])[0] > np.diff(intervals(labels, scores, scores > 0.75, level=0.8)["recall"])[0]


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
        lambda: intervals([0, 1], [0, 1], [0, 1], level=95),
        lambda: good_passed([0, 1], [0, 1], 5),
    ):
        with pytest.raises(DefectlocError):
            call()
