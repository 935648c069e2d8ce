"""MVTec's own training images plus few labelled defects, or none."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import FIT, WITHOUT_DEFECTS, last_localization

OFFICIAL = [
    "data=synthetic",
    "subset=pill",
    *FIT,
    "training.epochs=1",
    "data.split=official",
    "localization.threshold=0.05",
]


def test_without_a_labelled_defect_good_images_decide(alone):
    metrics = json.loads((alone / "metrics.json").read_text())
    assert metrics["epochs"] == 0
    assert metrics["n_test"] == 5 + 4 * 6
    assert metrics["auroc"] is not None
    assert metrics["pixel_auroc"] is not None
    assert not list(alone.glob("maps/cam-*"))
    assert pd.read_csv(alone / "predictions.csv")["log_odds"].isna().all()
    decision = json.loads((last_localization(alone) / "decision.json").read_text())
    assert "good validation images" in decision["weights"]["sentence"]
    assert metrics["class_network"] is None


def test_figures_without_a_class_map(alone, command):
    assert command("train", *WITHOUT_DEFECTS, "figures=true").code == 0
    assert (last_localization(alone) / "figures" / "test.png").is_file()


@pytest.mark.parametrize("key", ["localization.map=cam", "decision.score=class"])
def test_class_map_is_said_to_be_unavailable(command, key):
    sentence = command("train", *WITHOUT_DEFECTS, key).sentence
    assert "unavailable" in sentence
    assert "localization=fusion" in sentence


def test_the_default_needs_no_defective_image(alone, command):
    outcome = command("train", *OFFICIAL, "data.n_defective=0")
    assert outcome.code == 0, outcome.err
    assert "no class network is fitted" not in outcome.err  # found fitted
    (fusion,) = alone.glob("maps/fusion-*")
    assert not (fusion / "shortcut.csv").exists()
    combination = json.loads((fusion / "combination.json").read_text())
    assert combination["head_weight"] == combination["bank_weight"] == 1
    metrics = json.loads((alone / "metrics.json").read_text())
    assert metrics["shortcut"] is None
    assert metrics["auroc"] is not None


def test_class_map_of_such_a_run_is_said_to_be_unavailable(alone, command):
    arguments = (f"run={alone}", "localization=cam")
    assert "without a defective image" in command("localize", *arguments).sentence
    arguments = (f"run={alone}", "localization=memory", "decision.score=class")
    assert "no class score" in command("localize", *arguments).sentence


def test_only_the_maps_of_the_run_explain_where_no_network_was_fitted(alone, command):
    sentence = command("explain", f"run={alone}", "method=gradcam").sentence
    assert "method=memory" in sentence
    assert command("explain", f"run={alone}", "method=memory", "n=1", "threads=1").code == 0


def test_prediction_by_the_memory_bank_alone(alone, command):
    images = json.loads((alone / "run.json").read_text())["root"] + "/pill/test"
    outcome = command("predict", f"run={alone}", f"images={images}", "output=new", "threads=1", "overlays=false")
    assert outcome.code == 0, outcome.err
    found = pd.read_csv("new/predictions.csv")
    assert found["log_odds"].isna().all()
    known = pd.read_csv(last_localization(alone) / "predictions.csv").query("split == 'test'")
    known["path"] = known["path"].str.removeprefix("pill/test/")
    both = known.merge(found, on="path")
    assert len(both) == len(found)
    # Stored features are rounded to half precision.
    assert (both["score_x"] - both["score_y"]).abs().max() < 0.1


@pytest.mark.parametrize("n", [1, 3])
def test_few_defects_leave_the_test_split(command, n):
    assert command("train", *OFFICIAL, f"data.n_defective={n}").code == 0
    folder = next(Path("outputs").glob("pill/fold0-*"))
    catalog = pd.read_csv(folder / "catalog.csv")
    defective = catalog[catalog["label"] == 1]
    assert (defective["split"] != "test").sum() == n
    # One alone is for learning from.
    assert (defective["split"] == "train").sum() >= 1
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n_test"] == 5 + 24 - n


@pytest.mark.parametrize("n", [0, 2])
def test_few_defects_of_a_pooled_fold(command, n):
    keys = [each for each in OFFICIAL if each != "data.split=official"]
    assert command("train", *keys, f"data.n_defective={n}", "training=none").code == 0
    folder = next(Path("outputs").glob("pill/fold0-*"))
    catalog = pd.read_csv(folder / "catalog.csv")
    kept = catalog[catalog["split"].isin(["train", "validation"])]
    assert kept["label"].sum() == n
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n_train"] + metrics["n_validation"] == len(kept)
    assert metrics["confusion"]["tp"] + metrics["confusion"]["fn"] == (catalog.query("split == 'test'")["label"]).sum()
    assert metrics["auroc"] is not None


def test_the_folder_s_own_split_takes_no_number(command):
    assert "kfold" in command("train", *OFFICIAL[:-2], "data.split=given", "data.n_defective=3").sentence


def test_a_negative_number_is_refused(command):
    assert "must not be negative" in command("train", *OFFICIAL, "data.n_defective=-1").sentence
