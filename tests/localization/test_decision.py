import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from defectloc.config import DecisionConfig
from defectloc.errors import DefectlocError
from defectloc.localization.calibration import brier_score, expected_calibration_error
from defectloc.localization.decision import Decision

# With one good and one defective image on the wrong side of 0.
IMAGES = pd.DataFrame({"label": [0, 0, 0, 0, 1, 0, 1, 1], "log_odds": [-3.0, -2, -1, 0, 1, 2, 3, 4]})


def config(**changes: Any) -> DecisionConfig:
    values: dict[str, Any] = {
        "score": "class",
        "threshold_from": "validation",
        "threshold": 0.5,
        "max_escape_rate": None,
        "max_overkill_rate": None,
        "calibrate": False,
        "prevalence": None,
    }
    return DecisionConfig(**values | changes)


def parts(n_good: int, n_bad: int, seed: int, distance: float = 2.0) -> pd.DataFrame:
    """Images whose `log_odds` are right for classes of equal size, and a map's score of another scale."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], [n_good, n_bad])
    feature = rng.normal(size=n_good + n_bad) + distance * label
    log_odds = distance * feature - distance**2 / 2
    return pd.DataFrame({"label": label, "log_odds": log_odds, "map_score": 10 + 0.5 * feature})


def test_fixed_threshold_without_calibration_is_the_sign_of_the_log_odds() -> None:
    decision = Decision.fit(pd.DataFrame(), config(threshold_from="fixed"))
    found = decision.apply(IMAGES)
    assert found["score"].tolist() == IMAGES["log_odds"].tolist()
    np.testing.assert_allclose(found["probability"], expit(IMAGES["log_odds"]))
    assert found["predicted"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found["verdict"].tolist() == ["good"] * 4 + ["defective"] * 4
    assert list(found.columns) == ["label", "log_odds", "score", "probability", "predicted", "verdict"]
    assert decision.messages == []


def test_threshold_by_balanced_accuracy_is_reported_as_score_and_as_probability() -> None:
    decision = Decision.fit(IMAGES, config())
    assert decision.threshold.score == 0.5
    assert decision.threshold.probability == pytest.approx(expit(0.5))
    assert decision.apply(IMAGES)["predicted"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "limits", [{}, {"max_escape_rate": 0.1}, {"max_overkill_rate": 0.1}, {"max_escape_rate": 0, "max_overkill_rate": 0}]
)
def test_calibration_and_prevalence_change_no_verdict_of_a_chosen_threshold(limits: dict[str, float]) -> None:
    validation, test = parts(60, 25, seed=0), parts(600, 25, seed=1)
    plain, calibrated, stated = (
        Decision.fit(validation, config(**limits, **more)).apply(test)
        for more in ({}, {"calibrate": True}, {"calibrate": True, "prevalence": 0.04})
    )
    assert plain["verdict"].tolist() == calibrated["verdict"].tolist() == stated["verdict"].tolist()
    assert (plain["probability"] - calibrated["probability"]).abs().max() > 0.1


def test_saturated_probabilities_do_not_tie() -> None:
    images = pd.DataFrame({"label": [0] * 3 + [1] * 3, "log_odds": [100.0, 110, 120, 200, 210, 220]})
    decision = Decision.fit(images, config())
    found = decision.apply(images)
    assert found["probability"].nunique() == 1
    assert found["predicted"].tolist() == [0, 0, 0, 1, 1, 1]
    assert decision.threshold.score == 160


def test_a_fixed_threshold_applies_to_the_probability_that_is_shown() -> None:
    test = parts(500, 500, seed=2)
    for more in ({"calibrate": True}, {"prevalence": 0.04}, {"calibrate": True, "prevalence": 0.04}):
        decision = Decision.fit(parts(60, 25, seed=0), config(threshold_from="fixed", threshold=0.3, **more))
        found = decision.apply(test)
        assert found["predicted"].tolist() == (found["probability"] > 0.3).astype(int).tolist()
        assert decision.threshold.probability == 0.3
        assert 0 < found["predicted"].sum() < 1000


def test_probabilities_at_a_stated_prevalence_of_4_percent_are_right_as_often_as_they_say() -> None:
    validation, production = parts(2000, 1000, seed=3), parts(192_000, 8_000, seed=4)
    # The scores that come out of a network: steeper than they should be, and shifted.
    for each in (validation, production):
        each["log_odds"] = 3 * each["log_odds"] + 2
    found = Decision.fit(validation, config(calibrate=True, prevalence=0.04)).apply(production)
    between = found[found["probability"].between(0.5, 0.7)]
    assert len(between) > 500
    assert between["label"].mean() == pytest.approx(between["probability"].mean(), abs=0.05)
    # Without either most of such images are good.
    plain = Decision.fit(validation, config()).apply(production)
    assert plain.loc[plain["probability"].between(0.5, 0.7), "label"].mean() < 0.1


def test_a_stated_prevalence_shifts_uncalibrated_probabilities_from_equal_classes() -> None:
    found = Decision.fit(IMAGES, config(prevalence=0.04)).apply(IMAGES)
    np.testing.assert_allclose(logit(found["probability"]), IMAGES["log_odds"] + logit(0.04))


def test_calibration_errors_are_those_of_held_out_images() -> None:
    validation = parts(60, 25, seed=5)
    asked = config(calibrate=True, score="fusion")
    calibration = Decision.fit(validation, asked).calibration
    held_out = Decision.cross_fit(validation, asked)
    truth = held_out["label"]
    assert calibration.ece_after == expected_calibration_error(truth, held_out["probability"])
    assert calibration.brier_after == brier_score(truth, held_out["probability"])
    assert calibration.brier_before == brier_score(truth, expit(held_out["score"]))
    # They do not change with the prevalence asked for: that of the split is the only one known here.
    assert Decision.fit(validation, config(calibrate=True, score="fusion", prevalence=0.01)).calibration == calibration


def test_held_out_calibration_error_is_larger_than_that_of_the_images_it_was_fitted_to() -> None:
    held_out, own = [], []
    for seed in range(15):
        validation = parts(20, 10, seed)
        decision = Decision.fit(validation, config(calibrate=True, score="fusion"))
        held_out.append(decision.calibration.brier_after)
        own.append(brier_score(validation["label"], decision.apply(validation)["probability"]))
    assert np.mean(held_out) > np.mean(own) + 0.005


@pytest.mark.parametrize("score", ["class", "fusion"])
def test_cross_fitted_balanced_accuracy_of_noise_is_one_half(score: str) -> None:
    cross_fitted, own = [], []
    for seed in range(60):
        noise = parts(60, 25, seed, distance=0.0).assign(log_odds=lambda table: table["map_score"])
        for found, scores in (
            (Decision.cross_fit(noise, config(score=score)), cross_fitted),
            (Decision.fit(noise, config(score=score)).apply(noise), own),
        ):
            scores.append(balanced_accuracy_score(found["label"], found["predicted"]))
    assert np.mean(cross_fitted) == pytest.approx(0.5, abs=0.02)
    assert np.mean(own) > np.mean(cross_fitted) + 0.02


def test_cross_fit_keeps_the_rows_and_their_order() -> None:
    validation = parts(60, 25, seed=6).sample(frac=1, random_state=0)
    found = Decision.cross_fit(validation, config(score="fusion", calibrate=True))
    pd.testing.assert_frame_equal(found[validation.columns], validation)
    assert found.equals(Decision.cross_fit(validation, config(score="fusion", calibrate=True)))
    assert set(found["verdict"]) <= {"good", "defective"}


@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0], [0, 0, 0, 1], [0, 1], [0, 0, 1, 1]])
@pytest.mark.parametrize("score", ["class", "memory", "fusion"])
def test_cross_fit_of_few_images(labels: list[int], score: str) -> None:
    values = np.random.default_rng(0).normal(size=(len(labels), 2))
    validation = pd.DataFrame(values, columns=["log_odds", "map_score"]).assign(label=np.array(labels, int))
    found = Decision.cross_fit(validation, config(score=score, calibrate=True))
    assert found["label"].tolist() == labels
    assert np.isfinite(found["probability"]).all()


def test_no_image_takes_part_in_its_own_judgement() -> None:
    validation = parts(30, 15, seed=7)
    found = Decision.cross_fit(validation, config(calibrate=True))
    changed = validation.copy()
    changed.loc[0, "log_odds"] = 50.0
    again = Decision.cross_fit(changed, config(calibrate=True))
    # Its fold is judged as before, all others by something else.
    same = np.isclose(found["probability"], again["probability"], rtol=1e-9, atol=0)
    assert 5 < same.sum() < 15


def test_a_review_band_has_three_verdicts_and_stops_what_it_holds() -> None:
    decision = Decision.fit(IMAGES, config(max_escape_rate=0.0, max_overkill_rate=0.0))
    found = decision.apply(IMAGES)
    assert found["verdict"].tolist() == ["good"] * 4 + ["review"] * 2 + ["defective"] * 2
    assert found["predicted"].tolist() == [0] * 4 + [1] * 4
    assert (decision.threshold.score, decision.defective_above.score) == (0.5, 2.5)
    assert decision.describe(0.7) == "review, p = 0.700 (review above 0.622, defective above 0.924)"


def test_without_two_classes_the_configured_probability_is_the_threshold_and_messages_say_so() -> None:
    good = IMAGES[IMAGES["label"] == 0]
    decision = Decision.fit(good, config(threshold=0.4, calibrate=True))
    assert decision.threshold.probability == 0.4
    assert decision.threshold.score == pytest.approx(logit(0.4))
    calibration, threshold = decision.messages
    assert "not calibrated" in calibration
    assert (
        threshold
        == "The validation split has no defective image; decision.threshold=0.4, a probability, is used instead."
    )
    assert decision.calibration.ece_after is None


@pytest.mark.parametrize("score", ["memory", "fusion"])
@pytest.mark.parametrize("n_bad", [0, 1, 4])
def test_with_few_defects_good_images_give_a_map_s_threshold(score: str, n_bad: int) -> None:
    validation, test = parts(100, n_bad, seed=8), parts(2000, 2000, seed=9)
    decision = Decision.fit(validation, config(score=score, calibrate=n_bad > 1))
    assert decision.apply(validation).loc[lambda t: t["label"] == 0, "predicted"].mean() == 0.05
    assert f"{n_bad} defective image" in decision.messages[-1]
    found = decision.apply(test)
    assert 0.01 < found.loc[found["label"] == 0, "predicted"].mean() < 0.12
    assert found.loc[found["label"] == 1, "predicted"].mean() > 0.4


def test_without_defects_even_odds_lie_at_the_threshold() -> None:
    decision = Decision.fit(parts(100, 0, seed=8), config(score="memory"))
    assert decision.threshold.score == pytest.approx(0)
    assert decision.threshold.probability == pytest.approx(0.5)


def test_limits_and_class_scores_are_chosen_by_the_few_defects_that_there_are() -> None:
    few = parts(60, 3, seed=8)
    for changes in ({"score": "class"}, {"score": "memory", "max_escape_rate": 0.0}):
        assert "are needed to choose by" not in Decision.fit(few, config(**changes)).threshold_from
    assert Decision.fit(parts(60, 25, seed=8), config(score="fusion", calibrate=True)).messages == []


def two_scores(seed: int) -> pd.DataFrame:
    """Images whose two scores tell the classes independently of each other."""
    first, second = parts(60, 25, seed), parts(60, 25, seed + 100)
    return first.assign(map_score=second["map_score"])


def test_map_and_class_network_together_tell_more_than_each_alone() -> None:
    def auroc(score: str) -> float:
        decisions = [Decision.cross_fit(two_scores(seed), config(score=score)) for seed in range(10)]
        return float(np.mean([roc_auc_score(each["label"], each["score"]) for each in decisions]))

    assert auroc("fusion") > max(auroc("class"), auroc("memory")) + 0.02


@pytest.mark.parametrize(("n_bad", "counts"), [(9, False), (10, True)])
def test_with_few_defects_the_map_decides_without_the_class_network(n_bad: int, counts: bool) -> None:
    images = two_scores(0).iloc[: 60 + n_bad]
    assert images["label"].sum() == n_bad
    weights = Decision.fit(images, config(score="fusion")).weights
    assert weights.of_map > 0
    assert (weights.of_class > 0) == counts


def test_a_class_network_that_is_left_out_changes_nothing() -> None:
    images = two_scores(0)
    decision = Decision.fit(images, config(score="fusion"), class_left_out="It judges by the light.")
    assert decision.messages[0].startswith("It judges by the light.")
    other = images.assign(log_odds=-images["log_odds"])
    for column in ("score", "predicted"):
        assert decision.apply(other)[column].tolist() == decision.apply(images)[column].tolist()


def test_without_a_class_network_the_map_decides() -> None:
    images = two_scores(0).assign(log_odds=np.nan)
    found = Decision.fit(images, config(score="fusion")).apply(images)
    expected = Decision.fit(images, config(score="memory")).apply(images)
    assert found["score"].tolist() == expected["score"].tolist()


def test_describe_never_contradicts_its_number() -> None:
    plain = Decision.fit(pd.DataFrame(), config(threshold_from="fixed"))
    assert plain.describe(0.405) == "good, p = 0.405"
    assert plain.describe(0.5001) == "defective, p = 0.5001"
    moved = Decision.fit(pd.DataFrame(), config(threshold_from="fixed", threshold=0.31))
    assert moved.describe(0.405) == "defective, p = 0.405 (threshold 0.310)"
    assert moved.describe(0.31) == "good, p = 0.310 (threshold 0.310)"
    assert moved.describe(0.31001) == "defective, p = 0.31001 (threshold 0.31000)"
    images = pd.DataFrame({"label": [0, 1], "log_odds": [100.0, 200]})
    saturated = Decision.fit(images, config())
    assert saturated.describe(1.0, "good") == "good, p = 1.000 (threshold 1.000)"


@pytest.mark.parametrize("score", ["class", "memory", "fusion"])
def test_json_brings_back_the_same_decision(score: str) -> None:
    limits = {"max_escape_rate": 0.0, "max_overkill_rate": 0.0}
    for more in ({}, {"calibrate": True, "prevalence": 0.1}, limits):
        images = parts(60, 25, seed=9)
        decision = Decision.fit(images, config(score=score, **more))
        again = Decision.from_json(json.loads(json.dumps(decision.to_json(), allow_nan=False)))
        assert again == decision
        pd.testing.assert_frame_equal(again.apply(images), decision.apply(images))


@pytest.mark.parametrize("content", [{}, [], {"weights": {}}, {"score": "class", "unknown": 1}])
def test_json_of_something_else_is_refused(content: Any) -> None:
    with pytest.raises(DefectlocError, match="no decision"):
        Decision.from_json(content)


def test_bad_requests_are_refused() -> None:
    missing = IMAGES.assign(log_odds=[np.nan, *IMAGES["log_odds"][1:]])
    fixed = Decision.fit(IMAGES, config(threshold_from="fixed"))
    for call in (
        lambda: Decision.fit(IMAGES, config(prevalence=0.0)),
        lambda: Decision.fit(IMAGES, config(prevalence=1.0)),
        lambda: Decision.fit(IMAGES, config(score="size")),
        lambda: Decision.fit(missing, config()),
        # A missing score must not pass as good.
        lambda: fixed.apply(missing),
    ):
        with pytest.raises(DefectlocError):
            call()
