"""Decisions and boxes at 101 thresholds, against the scores at each of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from defectloc.config import DecisionConfig
from defectloc.evaluation.box import BoxScores
from defectloc.evaluation.image import DECISIONS, image_scores, intervals
from defectloc.evaluation.operating_points import BOXES, BoxedImage, limits_of, n_limits_below, scores_at
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.calibration import Calibration
from defectloc.localization.decision import Decision, Limit


def decision(threshold=0.227, calibrated=False):
    fitted = Decision.fit(
        pd.DataFrame({"label": [], "log_odds": []}),
        DecisionConfig(score="class", threshold_from="fixed", threshold=threshold, calibrate=False),
    )
    if not calibrated:
        return fitted
    calibration = Calibration(slope=0.5, intercept=-1.0, prevalence=0.3)
    limit = Limit(calibration.score_at(threshold, 0.02), threshold)
    return replace(fitted, calibration=calibration, prevalence=0.02, threshold=limit, defective_above=limit)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("threshold", [1e-9, 0.227, 0.5, 1 - 1e-9])
def test_there_are_101_rising_limits_with_the_own_one_among_them(threshold, calibrated):
    own = decision(threshold, calibrated)
    limits, place = limits_of(own)
    assert len(limits) == 101
    assert limits[place] is own.threshold
    scores = [limit.score for limit in limits]
    assert scores == sorted(set(scores))
    assert (scores[0], scores[-1]) == (-np.inf, np.inf)
    assert own.probability(scores)[1:-1] == pytest.approx([limit.probability for limit in limits[1:-1]], abs=1e-12)


def test_an_image_is_predicted_defective_strictly_above_a_limit():
    limits, place = limits_of(decision())
    own = limits[place].score
    assert list(n_limits_below(limits, [own, np.nextafter(own, np.inf), -np.inf, 1e9])) == [place, place + 1, 0, 100]


def boxes(*corners):
    return pd.DataFrame([[*each, 1.0, 1.0] for each in corners], columns=COLUMNS)


def twelve_images():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 6)
    scores = rng.normal(size=12) + labels
    # Two images of one score, and one whose truth is not known.
    scores[3] = scores[4]
    images = []
    for number, (label, score) in enumerate(zip(labels, scores, strict=True)):
        x = int(rng.integers(0, 3))
        true = np.array([[0, 0, 4, 4]]) if label else np.zeros((0, 4))
        found = boxes((x, 0, x + 4, 4), (10, 10, 12, 12)) if number % 3 else boxes((x, 0, x + 4, 4))
        images.append(BoxedImage(f"{number}.png", float(score), found, None if number == 5 else true))
    return pd.DataFrame({"label": labels, "score": scores}), images


def test_scores_are_those_of_the_functions_that_score_a_run():
    test, images = twelve_images()
    limits, _ = limits_of(decision())
    at_limits = scores_at(limits, test, images)
    assert len(at_limits) == len(limits)
    # A quarter of them, which tells all of twelve images apart.
    for limit, found in list(zip(limits, at_limits, strict=True))[::4]:
        predicted = (test["score"] > limit.score).astype(int)
        image = image_scores(test["label"], test["score"], predicted)
        ranges = intervals(test["label"], test["score"], predicted)
        collected = BoxScores()
        for each in images:
            if each.true_boxes is not None:
                kept = each.boxes if each.score > limit.score else each.boxes.iloc[:0]
                collected.add(each.name, kept, each.true_boxes)
        box = collected.compute()
        assert {name: found[name] for name in BOXES} == {name: box[name] for name in BOXES}
        for name in ("confusion", "escapes", "overkill", "recall", "specificity", "balanced_accuracy", "accuracy"):
            assert found[name] == image[name]
        assert found["intervals_95"] == {name: ranges[name] for name in DECISIONS}


def test_without_masks_there_are_no_box_scores_and_without_defects_no_recall():
    test = pd.DataFrame({"label": [0, 0], "score": [-1.0, 1.0]})
    images = [BoxedImage(f"{score}", score, boxes((0, 0, 1, 1)), None) for score in test["score"]]
    limits, place = limits_of(decision(0.5))
    found = scores_at(limits, test, images)[place]
    assert (found["recall"], found["escapes"], found["box_f1_30"]) == (None, None, None)
    assert found["confusion"] == {"tp": 0, "fn": 0, "fp": 1, "tn": 1}
