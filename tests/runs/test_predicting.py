"""New images by a finished run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from defectloc.runs.directory import Run
from tests.conftest import files_below, last_localization, write_image


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


def test_verdicts_come_out_as_in_the_run(fused, command):
    run = Run.open(fused)
    images = f"images={run.record['root']}/pill"
    outcome = command("predict", f"run={fused}", images, "output=new", "threads=1", "overlays=false")
    assert outcome.code == 0, outcome.err
    known = pd.read_csv(last_localization(fused) / "predictions.csv").query("split == 'test'")
    found = pd.read_csv("new/predictions.csv")
    found["path"] = "pill/" + found["path"]
    both = known.merge(found, on="path", suffixes=("", "_new"))
    assert len(both) == len(known)
    limit = run.decision().threshold
    clear = (both["score"] - limit.score).abs() > 0.1
    assert clear.any()
    assert (both["verdict"] == both["verdict_new"])[clear].all()
    assert ((both["probability_new"] > limit.probability) == both["predicted_new"].astype(bool)).all()
    assert f"probability above {limit.probability:.3f}" in outcome.out


def test_a_tampered_product_is_refused(fused, command):
    path = next(fused.glob("maps/fusion-*/patch_head.npz"))
    with np.load(path) as content:
        arrays = dict(content)
    np.savez(path, **arrays | {"output_bias": arrays["output_bias"] + 1})
    write_image(Path("photos/a.png"), seed=1)
    sentence = command("predict", f"run={fused}", "images=photos", "output=new").sentence
    assert "no maps of localization.map=fusion" in sentence


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


def test_overlays_among_the_images_are_not_predicted(run, command):
    write_image(Path("photos/a.png"), seed=1)
    for _ in range(2):
        outcome = command("predict", f"run={run.folder}", "images=photos", "output=photos/new", "threads=1")
        assert outcome.code == 0, outcome.err
    assert list(pd.read_csv("photos/new/predictions.csv")["path"]) == ["a.png"]
