"""Memory and labels together, from fit to prediction."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL

from defectloc import localize, runs
from defectloc.config import DecisionConfig
from defectloc.localization.scores import by_trust

FIT = [argument for argument in SMALL if not argument.startswith("localization.")]
FUSION = ["localization.map=fusion", "localization.normalization=none", "localization.threshold=1"]
ARGUMENTS = ["data=synthetic", "subset=pill", *FIT, "training.epochs=1", *FUSION]


@pytest.fixture
def folder(command) -> Path:
    outcome = command("train", *ARGUMENTS)
    assert outcome.code == 0, outcome.err
    return next(Path("outputs").glob("pill/fold0-*"))


def localized(folder: Path) -> Path:
    return folder / "localization" / json.loads((folder / "metrics.json").read_text())["localization"]


def test_maps_score_and_evidence(folder):
    run = runs.Run.open(folder)
    images, fused, memory = run.images(), run.maps("fusion"), run.maps("memory")
    assert list(fused.cells) == list(images["path"])
    assert fused.grid == memory.grid
    assert fused.key.startswith(memory.key)
    for path, cells in fused.cells.items():
        assert cells.min() >= 0
        assert cells.shape == memory.cells[path].shape
    for name in ("kept_area", "kept_evidence"):
        assert images[name].between(0, 1).all()
    notes = json.loads((localized(folder) / "calibration.json").read_text())
    assert len(notes["score_weights"]) == 3
    assert min(notes["score_weights"]) >= 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["evidence"]["n_found"] is not None
    assert metrics["pixel_auroc"] is not None


def test_training_images_tell_what_the_decision_rests_on(folder):
    run = runs.Run.open(folder)
    catalog = pd.read_csv(folder / "catalog.csv")
    found, still_found = run.taught
    assert 0 <= still_found <= found <= len(catalog.query("split == 'train' and label == 1"))
    del run.record["taught"]
    assert run.taught == (0, 0)


def test_the_decision_counts_training_images(folder, monkeypatch):
    run, given = runs.Run.open(folder), []
    run.record["taught"] = {"found": 30, "still_found": 20}

    def noted(*arguments):
        given.append(arguments[-1])
        return by_trust(*arguments)

    monkeypatch.setattr(localize, "by_trust", noted)
    localize.decide(run, DecisionConfig(score="fusion", threshold_from="validation"))
    assert given == [(30, 20)]


def test_score_is_the_weighted_sum_that_is_kept(folder):
    from defectloc.localization.scores import hottest

    run = runs.Run.open(folder)
    images, cells = run.images(), run.maps("fusion").cells
    notes = json.loads((localized(folder) / "calibration.json").read_text())
    parts = [images["log_odds"], images["kept_log_odds"], hottest(np.stack([cells[path] for path in images["path"]]))]
    expected = sum(w * part for w, part in zip(notes["score_weights"], parts, strict=True)) + notes["score_bias"]
    found = pd.read_csv(localized(folder) / "predictions.csv")
    np.testing.assert_allclose(found["score"], expected, rtol=1e-6, atol=1e-6)


def test_other_maps_and_scores_are_post_processing(folder, command):
    stamps = {name: (folder / name).stat().st_mtime_ns for name in ("model.ckpt", "memory.npz", "fusion.npz")}
    for extra in (["decision.score=class"], ["decision.score=memory"], ["localization.map=memory"]):
        assert command("train", *ARGUMENTS, *extra).code == 0
    cam = ["localization.map=cam", "decision.score=fusion"]
    outcome = command("localize", f"run={folder}", *FUSION, *cam)
    assert outcome.code == 0, outcome.err
    assert {name: (folder / name).stat().st_mtime_ns for name in stamps} == stamps
    assert len(list((folder / "localization").iterdir())) == 5


def test_another_memory_makes_another_fusion(folder, command):
    before = (folder / "maps.fusion.npz").read_bytes()
    assert command("train", *ARGUMENTS, "memory.dims=16").code == 0
    assert (folder / "maps.fusion.npz").read_bytes() != before
    assert len(list((folder / "localization").iterdir())) == 1


def test_what_is_kept_is_what_the_run_wrote(folder, command):
    record = json.loads((folder / "run.json").read_text())
    assert set(record["digests"]) == {"memory.npz", "fusion.npz"}
    with np.load(folder / "fusion.npz") as content:
        arrays = dict(content)
    np.savez(folder / "fusion.npz", **arrays | {"bias": arrays["bias"] + 1})
    images = f"images={record['root']}/pill/test/good"
    sentence = command("predict", f"run={folder}", images, "output=new", "threads=1").sentence
    assert "fusion.npz is not the file that the run wrote" in sentence


def test_a_run_whose_maps_were_forgotten_is_not_localised(folder, command):
    """As after a break between another memory and its boxes."""
    runs.forget(folder, "fusion")
    assert "was not localised yet" in command("predict", f"run={folder}", "images=.", "output=new").sentence


def test_no_good_validation_image_is_told_before_the_fit(command):
    """One good image is in the test fold, the other is trained on."""
    few = ["data.n_good=1", "data.n_test_good=1", "n_folds=2", "localization.normalization=none"]
    arguments = [a for a in ARGUMENTS if not a.startswith(("data.n_good", "data.n_test_good", "n_folds"))]
    assert "no good image to bring maps to scale by" in command("train", *arguments, *few).sentence
    assert not list(Path("outputs").glob("pill/fold0-*"))


@pytest.mark.parametrize("level", ["conv3_3.pool", "conv3_3.pool0", "conv3_3.poolx", "image", "conv9_9"])
def test_unknown_levels_are_told_before_the_fit(command, level):
    assert level in command("train", *ARGUMENTS, f"memory.levels=[{level}]").sentence
    assert not list(Path("outputs").glob("pill/fold0-*"))


def test_the_same_twice(folder, command):
    assert command("train", *ARGUMENTS, "outputs=again").code == 0
    again = next(Path("again").glob("pill/fold0-*"))
    for name in ("maps.fusion.npz", "evidence.csv"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_prediction_gives_the_scores_of_the_run(folder, command):
    run = runs.Run.open(folder)
    images = f"images={run.record['root']}/pill"
    outcome = command("predict", f"run={folder}", images, "output=new", "threads=1", "overlays=false")
    assert outcome.code == 0, outcome.err
    known = pd.read_csv(localized(folder) / "predictions.csv")
    found = pd.read_csv("new/predictions.csv")
    found["path"] = "pill/" + found["path"]
    both = known.merge(found, on="path")
    assert len(both) == len(known)
    # Stored features are rounded to half precision, and an untrained network's log-odds are small.
    assert np.corrcoef(both["score_x"], both["score_y"])[0, 1] > 0.99


def test_figures(command):
    outcome = command("train", *ARGUMENTS, "figures=true", "decision.threshold_from=fixed")
    assert outcome.code == 0, outcome.err
    folder = next(Path("outputs").glob("pill/fold0-*"))
    found = json.loads((folder / "metrics.json").read_text())["evidence"]["n_found"]
    assert (folder / "figures" / "evidence.png").is_file() == (found > 0)


def test_no_validation_part_is_refused(command):
    sentence = command("train", *ARGUMENTS, "data.validation=0", "decision.threshold_from=fixed").sentence
    assert "localization.map=fusion needs a validation part" in sentence


@pytest.mark.parametrize("key", ["localization.map=both", "decision.score=both"])
def test_unknown_names_are_listed(command, key):
    assert "fusion" in command("train", *ARGUMENTS, key).sentence


def test_a_run_without_a_fusion_says_what_to_do(command):
    assert command("train", *ARGUMENTS, "localization.map=cam").code == 0
    folder = next(Path("outputs").glob("pill/fold0-*"))
    assert "no maps of localization.map=fusion" in command("localize", f"run={folder}", *FUSION).sentence
    cam = ["localization.map=cam", "localization.normalization=none", "decision.score=fusion"]
    assert "no maps of localization.map=fusion" in command("localize", f"run={folder}", *cam).sentence
