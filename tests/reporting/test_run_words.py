"""What the report of a run says, and what it leaves out where nothing was measured."""

from dataclasses import replace

import pandas as pd
import pytest

from defectloc.config import DecisionConfig
from defectloc.localization.decision import Decision, Limit
from defectloc.reporting import run_words

METRICS = {
    "subset": "part",
    "confusion": {"tp": 17, "fn": 11, "fp": 6, "tn": 53},
    "intervals_95": {"recall": [0.4, 0.8], "specificity": [0.785, 0.958]},
    "share_to_review": None,
    "auroc": 0.874,
    "pixel_auroc": None,
}
DECISION = Decision.fit(pd.DataFrame({"label": [], "log_odds": []}), DecisionConfig(score="class", threshold=0.25))


@pytest.mark.parametrize(
    ("tiles", "words"), [({}, "(vgg16, 320 x 224 px; "), ({"data.tiles": "448"}, "(vgg16, 224 px, tiles of 448 px; ")]
)
def test_the_introduction_says_what_the_network_sees(tiles, words):
    settings = {"model.name": "vgg16", "data.image_size": "224", "image_size": "320 x 224 px", "data.name": "csv"}
    first, _ = run_words.introduction(METRICS, {"train": (2, 1)}, settings | tiles, DECISION)
    assert words in first


def test_the_two_numbers_come_with_shares_and_intervals():
    missed, rejected, point = run_words.numbers(METRICS, DECISION)
    assert (missed["value"], rejected["value"]) == ("11 of 28", "6 of 59")
    assert missed["lines"][0] == "39.3 %; 95 % interval 20.0 to 60.0 %"
    assert rejected["lines"][0] == "10.2 %; 95 % interval 4.2 to 21.5 %"
    assert point["value"] == "p > 0.250"


def test_what_was_not_tested_is_not_zero():
    metrics = METRICS | {"confusion": {"tp": 0, "fn": 0, "fp": 1, "tn": 3}, "intervals_95": {"recall": None}}
    missed, rejected, _ = run_words.numbers(metrics, DECISION)
    assert missed["value"] == "not measured"
    assert rejected["value"] == "1 of 4"
    assert run_words.counted(0, 0, "no good photograph") == "no good photograph"


def test_a_review_band_is_named():
    decision = replace(DECISION, defective_above=Limit(1.0, 0.731))
    *_, point = run_words.numbers(METRICS | {"share_to_review": 0.125}, decision)
    assert "Up to 0.731 a person decides: 12.5%" in point["lines"][1]


def test_a_stated_prevalence_is_named_beside_that_of_the_curve():
    text = run_words.calibration(replace(DECISION, prevalence=0.02), 0.05)
    assert "share of 0.02" in text
    assert "0.500" in text
    assert "line" not in run_words.calibration(DECISION, None)


def test_scores_that_were_not_measured_are_left_out():
    rows = run_words.scores(METRICS)
    assert [row["value"] for row in rows] == ["0.874"]
    assert all(row["meaning"] for row in rows)
    assert set(run_words.MEANINGS) == set(run_words.TITLES)


def test_the_shortcut_check_is_one_sentence_by_what_it_found():
    found = {"n_found": 20, "retained_share": 0.9, "bank_auroc": 0.9}

    def said(**changes):
        return run_words.shortcut({"shortcut": found | changes}, None)

    assert "rest mostly on the defects" in said()["sentence"]
    assert said(retained_share=0.2)["warns"]
    assert "light, background" in said(retained_share=0.2)["sentence"]
    assert "too weak" in said(retained_share=0.2, bank_auroc=0.5)["sentence"]
    assert "too few" in said(retained_share=0.0, n_found=2)["sentence"]
    assert said()["sentence"].count(". ") == 0
    assert run_words.shortcut({"shortcut": None}, None) is None
    assert run_words.shortcut({"shortcut": found | {"retained_share": None}}, None) is None
