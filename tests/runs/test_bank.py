"""The memory bank of a run, from fit to prediction."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.config import StoredDtype, TrainSettings
from defectloc.localization.maps import Grid
from defectloc.runs.bank import NOVELTY, load_novelty, product_of
from defectloc.runs.directory import Run
from tests.conftest import MEMORY, last_localization


@pytest.fixture
def folder(command) -> Path:
    """A run with boxes from the memory."""
    outcome = command("train", *MEMORY)
    assert outcome.code == 0, outcome.err
    return next(Path("outputs").glob("pill/fold0-*"))


def test_maps_boxes_and_store(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["localization"].startswith("memory-")
    maps = Run.open(folder).maps("memory")
    assert NOVELTY in maps.product.note["files"]
    novelty = load_novelty(maps.folder)
    assert novelty is not None
    assert novelty.limit > 0
    predicted = pd.read_csv(folder / "predictions.csv")
    assert list(maps.cells) == list(predicted["path"])
    assert maps.grid == Grid(8.0, 3.5)
    assert next(iter(maps.cells.values())).shape == (4, 4)
    assert metrics["pixel_auroc"] is not None
    # pool4 is made of conv4_3 when it is read, so two levels are all that is stored.
    stored = {path.stem.rpartition("-")[0] for path in Path("outputs/.features").glob("*/*.npy")}
    assert stored == {"conv3_3.pool2", "conv4_3"}


def test_test_images_that_predict_would_not_judge_are_counted_and_named(command):
    rng = np.random.default_rng(0)
    for split, n_each in (("train", 12), ("test", 4)):
        for label, name in enumerate(("good", "defective")):
            for number in range(n_each):
                pixels = np.full((48, 48, 3), 120) + rng.integers(0, 12, (48, 48, 3))
                pixels[20:28, 20:28] += 80 * label
                if (split, label, number) == ("test", 0, 0):
                    pixels = rng.integers(0, 256, (48, 48, 3))
                path = Path("photos", split, name, f"{number}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    arguments = [each for each in MEMORY if not each.startswith(("data", "subset"))]
    source = ("data=folder", "data.root=photos", "subset=plates", "data.split=given", "data.image_size=32")
    outcome = command("train", *source, *arguments)
    assert outcome.code == 0, outcome.err
    folder = next(Path("outputs").glob("plates/fold0-*"))
    assert json.loads((folder / "metrics.json").read_text())["n_unlike_training"] == 1
    assert "1 of 8 test images are unlike the training photographs" in outcome.err
    predicted = pd.read_csv(last_localization(folder) / "predictions.csv").set_index("path")
    unlike = predicted.index[(predicted["split"] == "test") & (predicted["novelty"] > 1)]
    assert list(unlike) == ["test/good/0.png"]
    arguments = (f"run={folder}", "images=photos/test", "output=new", "threads=1", "overlays=false")
    assert command("predict", *arguments).code == 0
    found = pd.read_csv("new/predictions.csv").set_index("path")
    assert list(found.index[found["unlike_training"] == 1]) == ["good/0.png"]
    np.testing.assert_allclose(found.loc["good/0.png", "novelty"], predicted.loc[unlike[0], "novelty"], rtol=0.01)


def test_found_again_and_kept_beside_another_setting(folder, command):
    before = {path: path.stat().st_mtime_ns for path in (*folder.glob("maps/*/*.npz"), folder / "model.ckpt")}
    assert command("train", *MEMORY, "localization.threshold=3").code == 0
    assert command("train", *MEMORY, "memory.dims=16").code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.glob("maps/memory-*"))) == 2
    assert len(list((folder / "localization").iterdir())) == 3


def test_prediction_gives_the_maps_of_the_run(folder, command):
    run = Run.open(folder)
    arguments = (f"run={folder}", f"images={run.record['root']}/pill", "output=new", "threads=1", "overlays=false")
    outcome = command("predict", *arguments)
    assert outcome.code == 0, outcome.err
    expected = pd.read_csv(last_localization(folder) / "boxes.csv")
    found = pd.read_csv("new/boxes.csv")
    found["path"] = "pill/" + found["path"]
    both = expected.merge(found, on=["path", "x0", "y0", "x1", "y1"])
    # Stored features are rounded to half precision, so a box may differ here and there.
    assert len(both) >= 0.8 * len(expected)
    np.testing.assert_allclose(both["score_x"], both["score_y"], rtol=0.05)


def test_the_type_of_what_is_stored_is_part_of_a_bank_whose_fit_streams():
    """With a random augmentation the fit takes images, so that its fingerprint does not name the type."""
    names = set()
    for dtype in ("float16", "float32"):
        settings = TrainSettings()
        settings.features.dtype = StoredDtype(dtype)
        fold = SimpleNamespace(settings=settings, cached=False, bank_levels=["conv4_3"], tiling=None)
        names.add(product_of(fold, Path("run")).name)
    assert len(names) == 2


def test_each_setting_of_the_memory_bank_is_part_of_it():
    names = set()
    for changed in ({}, {"levels": ["conv3_3"]}, {"dims": 16}, {"budget_mb": 1.0}):
        settings = TrainSettings()
        for key, value in changed.items():
            setattr(settings.memory, key, value)
        levels = settings.memory.levels or ["conv4_3"]
        fold = SimpleNamespace(settings=settings, cached=True, bank_levels=levels, tiling=None)
        names.add(product_of(fold, Path("run")).name)
    assert len(names) == 4


@pytest.mark.slow
def test_streamed_as_stored(folder, command):
    stored = Run.open(folder).maps("memory").cells
    assert command("train", *MEMORY, "features.cache=false", "outputs=streamed").code == 0
    streamed = Run.open(next(Path("streamed").glob("pill/fold0-*"))).maps("memory").cells
    for path, cells in stored.items():
        np.testing.assert_allclose(streamed[path], cells, rtol=0.02, atol=0.02)


def test_a_level_that_is_trained_is_refused_before_the_fit(command):
    sentence = command("train", *MEMORY, "model.trainable_from=conv4_1").sentence
    assert "conv4_3" in sentence
    assert "localization.map=cam" in sentence
    assert not list(Path("outputs").glob("pill/fold0-*"))


def test_run_without_a_memory_bank_says_what_to_do(command):
    assert command("train", *MEMORY, "localization=cam", "localization.threshold=1").code == 0
    folder = next(Path("outputs").glob("pill/fold0-*"))
    assert "no maps of localization.map=memory" in command("localize", f"run={folder}", "localization=memory").sentence
