"""Results grouped by setting."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from defectloc.reporting.summary import NOT_DISJOINT, Result, footnotes, markdown, shown, summary

SETTINGS = {
    "data.image_size": 224,
    "data.split": "kfold",
    "model.name": "vgg16",
    "localization.map": "cam",
    "localization.normalization": "minmax",
    "localization.threshold_from": "fixed",
    "localization.threshold": 0.8,
    "localization.boxes": "single",
    "decision.score": "class",
}


def result(fold=0, accuracy=0.5, *, subset="part", fingerprint="abc", localization="cam-1", settings=None, **more):
    metrics = {
        "subset": subset,
        "fold": fold,
        "n_test": 10,
        "localization": localization,
        "balanced_accuracy": accuracy,
        "pixel_auroc": None,
        "confusion": {"tp": 3, "fn": 1, "fp": 2, "tn": 4},
        "validation": {"balanced_accuracy": None},
        **more,
    }
    return Result(metrics, SETTINGS | (settings or {}), fingerprint, Path("run"))


def test_mean_and_sd_over_folds():
    table = summary([result(0, 0.6), result(1, 0.8)], {})
    row = table.iloc[0]
    assert (row["n_folds"], row["n_test"]) == (2, 20)
    assert row["balanced_accuracy"] == pytest.approx(0.7)
    assert row["balanced_accuracy_sd"] == pytest.approx(0.2 / 2**0.5)
    assert (row["tp"], row["fn"], row["fp"], row["tn"]) == (6, 2, 4, 8)
    assert np.isnan(row["pixel_auroc"])
    text = shown(table)
    assert text["balanced accuracy"][0] == "0.700 ± 0.141"
    assert text["missed"][0] == "2 of 8"
    assert text["false alarms"][0] == "4 of 12"
    assert "pixel AUROC" not in text
    assert shown(summary([result(0, 0.6)], {}))["balanced accuracy"][0] == "0.600"


def test_a_score_that_a_fold_has_not_says_how_many_have_it():
    table = summary([result(0, 0.6), result(1, 0.8), result(2, None)], {})
    row = table.iloc[0]
    assert (row["n_folds"], row["balanced_accuracy_n"], row["pixel_auroc_n"]) == (3, 2, 0)
    assert shown(table)["balanced accuracy"][0] == "0.700 ± 0.141 (2 of 3 folds)"


@pytest.mark.parametrize("origin", ["validation", "good_quantile"])
def test_a_threshold_that_each_fold_chose_is_not_that_of_the_settings(origin):
    table = summary([result(0), result(1, localization="cam-2", settings={"localization.threshold_from": origin})], {})
    assert table.set_index("localization")["threshold"].isna().to_dict() == {"cam-1": False, "cam-2": True}


def test_two_settings_of_the_memory_bank_are_two_rows():
    results = [
        result(0, 0.6, localization="fusion-1", settings={"memory.dims": 128}),
        result(1, 0.8, localization="fusion-2", settings={"memory.dims": 64}),
    ]
    table = summary(results, {})
    assert sorted(table["balanced_accuracy"]) == [0.6, 0.8]
    assert [label.rpartition(", ")[2] for label in table["setting"]] == ["memory dims 128", "memory dims 64"]


@pytest.mark.parametrize("difference", [{"fingerprint": "def"}, {"localization": "cam-2"}])
def test_equal_settings_of_other_files_have_labels_of_their_own(difference):
    table = summary([result(), result(**difference)], {})
    assert table["setting"].is_unique
    assert table["setting"].str.contains("fit abc|localization 1").sum() == 1


def test_the_published_row_and_the_class_network_stand_beside():
    network = {"class_network": {"balanced_accuracy": 0.9, "auroc": 0.95}}
    table = summary([result(subset="pill", settings={"data.name": "mvtec"}, **network), result()], {})
    assert list(table["published_balanced_accuracy"].dropna()) == [0.817]
    text = shown(table)
    assert list(text["published case study"]) == ["–", "0.817"]
    assert list(text["of the class network"]) == ["–", "0.900"]


def test_a_choice_on_validation_images_has_its_footnote():
    measured = [result(validation={"balanced_accuracy": 0.7}), result(localization="cam-2")]
    table = summary(measured, {})
    assert "validation: balanced accuracy" in shown(table)
    assert footnotes(table, measured) == [NOT_DISJOINT]
    assert "Validation images of one fold are test images of another" in NOT_DISJOINT
    # With fixed splits they are not; and without validation scores nothing was chosen.
    fixed = [result(validation={"balanced_accuracy": 0.7}, settings={"data.split": "official"})]
    assert footnotes(summary(fixed, {}), fixed) == []
    assert footnotes(summary([result()], {}), [result()]) == []


def test_no_reader_of_csv_takes_a_fingerprint_for_a_number():
    table = summary([result(fingerprint="12345e678901"), result(fingerprint="000000000012")], {})
    read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    for column in ("subset", "setting", "runs", "localization"):
        assert list(read[column]) == list(table[column])
    assert list(read["runs"]) == ["part/fold*-000000000012", "part/fold*-12345e678901"]


def test_markdown_keeps_its_columns():
    assert markdown(pd.DataFrame({"a": ["x|y"], "b": ["1"]})) == "| a | b |\n|---|---|\n| x\\|y | 1 |\n"


def test_nothing_to_summarize():
    assert summary([], {}).empty
