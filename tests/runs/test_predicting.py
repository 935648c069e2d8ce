"""New images by a finished run."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import files_below, write_image

from defectloc.predict import Inspector
from defectloc.runs import Run


@pytest.fixture
def run(finished) -> Run:
    return Run.open(next(finished.glob("pill/fold0-*")))


def test_test_images_come_out_as_in_the_run(run, command, tmp_path):
    expected = pd.read_csv(run.folder / "predictions.csv").query("split == 'test'")
    root = run.record["root"]
    outcome = command("predict", f"run={run.folder}", f"images={root}/pill", f"output={tmp_path / 'o'}", "threads=1")
    assert outcome.code == 0, outcome.err
    found = pd.read_csv(tmp_path / "o" / "predictions.csv")
    found["path"] = "pill/" + found["path"]
    both = expected.merge(found, on="path", suffixes=("", "_new"))
    assert len(both) == len(expected)
    # The run's features were rounded to half precision on their way through the store.
    np.testing.assert_allclose(both["log_odds_new"], both["log_odds"], rtol=0.02, atol=0.02)
    assert len(files_below(tmp_path / "o" / "overlays")) == len(found)


def test_a_run_from_before_a_key_predicts_as_it_did(run, tmp_path):
    metrics = json.loads((run.folder / "metrics.json").read_text())
    copy = Run.open(shutil.copytree(run.folder, tmp_path / "run"))
    config = copy.folder / "localization" / metrics["localization"] / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "min_peak" not in line))
    assert len(config.read_text().splitlines()) == len(lines) - 1
    assert Inspector(copy, "cpu").localization == Inspector(run, "cpu").localization


def test_unreadable_image_is_named_and_skipped(run, command, tmp_path):
    write_image(tmp_path / "photos" / "a.png", seed=1)
    (tmp_path / "photos" / "b.png").write_text("no image")
    outcome = command(
        "predict", f"run={run.folder}", f"images={tmp_path / 'photos'}", f"output={tmp_path / 'o'}", "threads=1"
    )
    assert outcome.code == 2
    assert "b.png" in outcome.err
    assert "1 of 2 images" in outcome.err
    assert list(pd.read_csv(tmp_path / "o" / "predictions.csv")["path"]) == ["a.png"]


def test_one_image_by_name(run, command, tmp_path):
    photo = write_image(tmp_path / "a b, [c] 'd'.png", seed=1)
    outcome = command("predict", f"run={run.folder}", f"images={photo}", f"output={tmp_path / 'o'}", "overlays=false")
    assert outcome.code == 0, outcome.err
    assert list(pd.read_csv(tmp_path / "o" / "predictions.csv")["path"]) == [photo.name]


@pytest.mark.parametrize(
    ("images", "word"), [("nowhere", "does not exist"), ("empty", "holds no images"), ("note.txt", "not named")]
)
def test_bad_input(run, command, tmp_path, images, word):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    sentence = command(
        "predict", f"run={run.folder}", f"images={tmp_path / images}", f"output={tmp_path / 'o'}"
    ).sentence
    assert word in sentence
    assert not (tmp_path / "o").exists()
