"""The identity of a localization: what it is made of, and when it is made again."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from defectloc.errors import DefectlocError
from defectloc.files import lock
from defectloc.runs import scoring
from defectloc.runs.directory import Run
from tests.handmade import CASE_STUDY, five_images, localized, post_process, square, write_run


@pytest.fixture
def run(tmp_path) -> Run:
    return write_run(tmp_path, five_images())


def test_redrawn_masks_are_scored_anew(run, tmp_path):
    first = post_process(run, {"threshold": 0.3})
    Image.fromarray(np.full((10, 10), 255, np.uint8)).save(tmp_path / "data" / "masks" / "bad" / "0.png")
    again = post_process(run, {"threshold": 0.3})
    assert again["localization"] != first["localization"]
    assert again["pixel_ap"] != first["pixel_ap"]
    assert (localized(run, first) / "metrics.json").is_file()


def test_another_version_of_the_scoring_scores_anew(run, monkeypatch):
    first = post_process(run)
    monkeypatch.setattr(scoring, "VERSION", scoring.VERSION + 1)
    # Of the maps, whose scores are kept beside them, as well.
    monkeypatch.setattr(scoring, "score_maps", lambda samples: {"pixel_ap": 0.125})
    again = post_process(run)
    assert again["localization"] != first["localization"]
    assert again["pixel_ap"] == 0.125 != first["pixel_ap"]


def test_another_ignore_mask_is_another_localization(run, tmp_path):
    for name, mask in (("a.png", square(8, 8, 10, 10)), ("b.png", square(0, 0, 4, 4))):
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(tmp_path / name)
    found = [post_process(run, ignore_mask=str(tmp_path / name) if name else None) for name in (None, "a.png", "b.png")]
    assert len({metrics["localization"] for metrics in found}) == 3
    assert len({metrics["pixel_ap"] for metrics in found}) == 3


def test_localize_keeps_the_ignore_mask_of_the_run(command, tmp_path, run):
    strip = np.zeros((10, 10), np.uint8)
    strip[:, :5] = 255
    Image.fromarray(strip).save(tmp_path / "strip.png")
    by_file = post_process(run, ignore_mask=str(tmp_path / "strip.png"))
    (run.folder / "metrics.json").write_bytes((localized(run, by_file) / "metrics.json").read_bytes())
    (tmp_path / "strip.png").unlink()
    masks = {}
    for asked in ("null", "none"):
        keys = (*CASE_STUDY, "localization.threshold=0.4", f"ignore_mask={asked}")
        outcome = command("localize", f"run={run.folder}", *keys)
        assert outcome.code == 0, outcome.err
        config = OmegaConf.load(Path(outcome.out.splitlines()[-1]) / "config.yaml")
        masks[asked] = config.truth.ignore_mask
    assert masks["none"] is None
    # The copy counts as the file itself.
    assert masks["null"] == OmegaConf.load(localized(run, by_file) / "config.yaml").truth.ignore_mask


def test_ignore_mask_that_does_not_exist(run, command):
    arguments = (f"run={run.folder}", *CASE_STUDY, "ignore_mask=nowhere.png")
    assert "nowhere.png does not exist" in command("localize", *arguments).sentence


def test_an_ignored_strip_does_not_split_a_defect(tmp_path):
    images = five_images()
    images[0]["mask"] = square(0, 0, 10, 4)
    run = write_run(tmp_path, images)
    Image.fromarray(np.where(square(4, 0, 6, 10), 255, 0).astype(np.uint8)).save(tmp_path / "strip.png")
    metrics = post_process(run, ignore_mask=str(tmp_path / "strip.png"))
    # One of bad/0, two of bad/1, and of bad/2 the square lies wholly in the strip.
    assert metrics["n_true_boxes"] == 3


def test_empty_mask_of_a_defective_image_is_refused_by_name(run, tmp_path):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "data" / "masks" / "bad" / "1.png")
    with pytest.raises(DefectlocError, match=r"bad/1\.png"):
        post_process(run)


def test_localize_waits_for_the_lock_of_the_run(run):
    arguments = [sys.executable, "-m", "defectloc.localize", f"run={run.folder}", *CASE_STUDY]
    with lock(run.folder / ".lock", "the test"):
        job = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert any("waiting: another process is busy with the same run" in line for line in job.stderr)
        assert not (run.folder / "localization").exists()
    assert job.wait() == 0
    job.stderr.close()


def test_a_damaged_localization_is_made_again(run):
    metrics = post_process(run)
    path = localized(run, metrics) / "metrics.json"
    path.write_text("")
    assert post_process(run)["pixel_ap"] == metrics["pixel_ap"]
    assert json.loads(path.read_text())["localization"] == metrics["localization"]


@pytest.mark.parametrize("name", ["decision.json", "localizer.json", "predictions.csv", "boxes.csv", "config.yaml"])
def test_a_localization_that_lacks_a_file_is_made_again(run, name):
    path = localized(run, post_process(run)) / name
    before = path.read_bytes()
    if path.suffix == ".json":
        path.write_text('{"score": "class"}')
    else:
        path.unlink()
    post_process(run)
    assert path.read_bytes() == before


def test_masks_that_change_places_are_scored_anew(run):
    setting = {"threshold": 0.3, "boxes": "components"}
    first = post_process(run, setting)
    table = pd.read_csv(run.folder / "catalog.csv", keep_default_na=False)
    table.loc[[0, 1], "mask_path"] = table.loc[[1, 0], "mask_path"].to_numpy()
    table.to_csv(run.folder / "catalog.csv", index=False)
    again = post_process(Run.open(run.folder), setting)
    assert again["localization"] != first["localization"]
    assert again["box_f1_50"] != first["box_f1_50"]


def test_a_data_set_that_was_moved_does_not_lose_its_masks(run, command, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    arguments = (f"run={run.folder}", *CASE_STUDY)
    assert "say where it is now with root=FOLDER" in command("localize", *arguments).sentence
    assert "give another with root=FOLDER" in command("localize", *arguments, "root=nowhere").sentence
    assert command("localize", *arguments, f"root={tmp_path / 'moved'}").code == 0
    (path,) = (run.folder / "localization").glob("*/metrics.json")
    assert json.loads(path.read_text())["n_masks"] == 3
