"""training=none: memory bank and patch head alone."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import FUSION, WITHOUT_DEFECTS, last_localization

NONE = [argument for argument in FUSION if not argument.startswith("training.epochs")] + ["training=none"]


@pytest.mark.parametrize("key", ["localization.map=cam", "decision.score=class"])
def test_what_the_class_network_gives_is_unavailable(command, key):
    sentence = command("train", *NONE, key).sentence
    assert sentence.startswith(f"{key} is unavailable with training.epochs=0")
    assert not Path("outputs").exists()


def test_without_it_all_else_is_made(command):
    outcome = command("train", *NONE)
    assert outcome.code == 0, outcome.err
    assert "training.epochs=0: no class network is fitted" in outcome.err
    folder = next(Path("outputs").glob("pill/fold0-*"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 0
    assert metrics["class_network"] is None
    assert metrics["shortcut"] is None
    assert set(metrics["maps"]) == {"memory", "fusion"}
    assert metrics["auroc"] is not None
    images = json.loads((folder / "run.json").read_text())["root"] + "/pill"
    outcome = command("predict", f"run={folder}", f"images={images}", "output=new", "threads=1", "overlays=false")
    assert outcome.code == 0, outcome.err
    found = pd.read_csv("new/predictions.csv")
    assert found["log_odds"].isna().all()
    known = pd.read_csv(last_localization(folder) / "predictions.csv").query("split == 'test'")
    both = known.merge(found.assign(path="pill/" + found["path"]), on="path")
    assert len(both) == len(known)
    # Stored features are rounded to half precision.
    assert (both["score_x"] - both["score_y"]).abs().max() < 0.1
    assert "has no class network" in command("localize", f"run={folder}", "localization=cam").sentence


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [(r",0,good,", ",1,good,"), (r"\n.*,test,.*", ""), (r",good,\n", ",good,9.0\n"), (r",test,", ",validation,")],
    ids=["label", "row", "log_odds", "split"],
)
def test_a_table_of_images_that_was_changed_is_refused_and_made_again(command, alone, pattern, replacement):
    table = alone / "predictions.csv"
    before = table.read_text()
    changed = re.sub(pattern, replacement, before, count=1)
    assert changed != before
    table.write_text(changed)
    sentence = command("localize", f"run={alone}", "localization=memory", "localization.threshold=0.1").sentence
    assert "predictions.csv was changed or is damaged; start the same 'defectloc train' again" in sentence
    assert command("train", *WITHOUT_DEFECTS).code == 0
    assert table.read_text() == before
