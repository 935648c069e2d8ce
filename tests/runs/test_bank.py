"""The memory of good parts, from fit to prediction."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL

from defectloc import runs

FIT = [argument for argument in SMALL if not argument.startswith("localization.")]
MEMORY = ["localization.map=memory", "localization.normalization=good", "localization.threshold=5"]
ARGUMENTS = ["data=synthetic", "subset=pill", *FIT, "training.epochs=1", *MEMORY]


@pytest.fixture
def folder(command) -> Path:
    """A run with boxes from the memory."""
    outcome = command("train", *ARGUMENTS)
    assert outcome.code == 0, outcome.err
    return next(Path("outputs").glob("pill/fold0-*"))


def test_maps_boxes_and_store(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["localization"].startswith("memory-good-")
    maps = runs.Run.open(folder).maps("memory")
    predicted = pd.read_csv(folder / "predictions.csv")
    assert list(maps.cells) == list(predicted["path"])
    assert maps.grid == (8.0, 3.5)
    assert next(iter(maps.cells.values())).shape == (4, 4)
    assert metrics["pixel_auroc"] is not None
    # pool4 is made of conv4_3 when it is read, so two levels are all that is stored.
    stored = {path.stem.rpartition("-")[0] for path in Path("outputs/.features").glob("*/*.npy")}
    assert stored == {"conv3_3.pool2", "conv4_3"}


def test_found_again_and_made_anew_when_it_changes(folder, command):
    before = (folder / "maps.memory.npz").read_bytes()
    stamp = (folder / "memory.npz").stat().st_mtime_ns
    checkpoint = (folder / "model.ckpt").stat().st_mtime_ns
    assert command("train", *ARGUMENTS, "localization.threshold=3").code == 0
    assert (folder / "memory.npz").stat().st_mtime_ns == stamp
    assert command("train", *ARGUMENTS, "memory.dims=16").code == 0
    assert (folder / "maps.memory.npz").read_bytes() != before
    assert (folder / "model.ckpt").stat().st_mtime_ns == checkpoint
    # What was made of the other maps is gone.
    assert len(list((folder / "localization").iterdir())) == 1


def test_prediction_gives_the_maps_of_the_run(folder, command):
    run = runs.Run.open(folder)
    arguments = (f"run={folder}", f"images={run.record['root']}/pill", "output=new", "threads=1", "overlays=false")
    outcome = command("predict", *arguments)
    assert outcome.code == 0, outcome.err
    name = json.loads((folder / "metrics.json").read_text())["localization"]
    expected = pd.read_csv(folder / "localization" / name / "boxes.csv")
    found = pd.read_csv("new/boxes.csv")
    found["path"] = "pill/" + found["path"]
    both = expected.merge(found, on=["path", "x0", "y0", "x1", "y1"])
    # Stored features are rounded to half precision, so a box may differ here and there.
    assert len(both) >= 0.8 * len(expected)
    np.testing.assert_allclose(both["score_x"], both["score_y"], rtol=0.05)


def test_streamed_as_stored(folder, command):
    stored = runs.Run.open(folder).maps("memory").cells
    assert command("train", *ARGUMENTS, "features.cache=false", "outputs=streamed").code == 0
    streamed = runs.Run.open(next(Path("streamed").glob("pill/fold0-*"))).maps("memory").cells
    for path, cells in stored.items():
        np.testing.assert_allclose(streamed[path], cells, rtol=0.02, atol=0.02)


def test_a_level_that_is_trained_is_refused_before_the_fit(command):
    sentence = command("train", *ARGUMENTS, "model.trainable_from=conv4_1").sentence
    assert "conv4_3" in sentence
    assert "localization.map=cam" in sentence
    assert not list(Path("outputs").glob("pill/fold0-*"))


def test_run_without_a_memory_says_what_to_do(command):
    assert command("train", *ARGUMENTS, "localization.map=cam", "localization.threshold=1").code == 0
    folder = next(Path("outputs").glob("pill/fold0-*"))
    assert "no maps of localization.map=memory" in command("localize", f"run={folder}", *MEMORY).sentence
