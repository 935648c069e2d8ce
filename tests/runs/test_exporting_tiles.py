"""Exported models of runs in tiles: the numbers of their run on photographs of any size, and nothing else accepted."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import defectloc
from defectloc.deployment import run_model
from defectloc.localization.boxes import CORNERS
from defectloc.localization.score_weights import ScoreWeights
from defectloc.runs.directory import Run
from defectloc.runs.exporting import write
from defectloc.runs.predictor import Predictor
from tests.conftest import CAM, TILED, files_below, trained_once
from tests.runs.test_exporting import RUNTIMES, assert_equal, flip, installed
from tests.spots import photograph

# As in the run, smaller than a tile (64 px), of shifted tiles, and far longer than high.
SIZES = [(128, 192), (160, 96), (20, 30), (150, 203), (64, 300)]
WITH_CLASS_NETWORK = [*[each for each in TILED if each != "training=none"], "training.epochs=1"]

# The runs of the tests are fits of a narrow VGG16.
pytestmark = pytest.mark.usefixtures("narrow_for_module")


@pytest.fixture(scope="module")
def predictor(spots) -> Predictor:
    return Predictor(Run.open(next(spots[0].glob("spots/fold0-*"))))


@pytest.fixture(scope="module")
def both(spots, tmp_path_factory) -> Path:
    """A run in tiles whose class network sees photographs whole; not to be changed."""
    options = ["data.tiles=64", "patch_head.steps=6", "localization.threshold=0.05"]
    outputs = trained_once(tmp_path_factory, "spots-both", *WITH_CLASS_NETWORK, *spots[2], *options)
    return next(outputs.glob("spots/fold0-*"))


@pytest.fixture(scope="module")
def kept(predictor, spots, tmp_path_factory) -> Path:
    """A run in tiles, exported to ONNX; not to be changed."""
    installed("onnx")
    folder = tmp_path_factory.mktemp("exported")
    write(Run.open(next(spots[0].glob("spots/fold0-*"))), predictor, "onnx", folder)
    return folder


@pytest.fixture
def exported(kept, tmp_path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(kept, tmp_path / "exported"))


def photographs() -> list[np.ndarray]:
    """Photographs of each size, good and with a spot."""
    rng = np.random.default_rng(3)
    return [photograph(rng, *size, spot) for size in SIZES for spot in (None, (5, 12))]


def assert_all_equal(model, predictor: Predictor) -> None:
    images = photographs()
    found, wanted = model.predict(images, batch_size=4), predictor.predict(images)
    assert_equal(found, wanted)
    assert_equal([model.predict(each) for each in images[4:7]], wanted[4:7])
    n_boxes = 0
    for one, other in zip(found, wanted, strict=True):
        # The maps' own boxes, since the verdict of photographs unlike the training photographs gives none.
        boxes = [each.localizer.boxes(what.anomaly_map) for each, what in ((model, one), (predictor, other))]
        np.testing.assert_array_equal(boxes[0][CORNERS], boxes[1][CORNERS])
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-3 * np.ptp(other.anomaly_map))
        n_boxes += len(boxes[0])
    assert n_boxes


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predictions_are_those_of_the_run(runtime, predictor, tiled, tmp_path):
    write(tiled, predictor, installed(runtime), tmp_path / "exported")
    model = defectloc.load(tmp_path / "exported", threads=1)
    assert model.tiling == predictor.tiling
    assert_all_equal(model, predictor)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_class_network_sees_the_photograph_whole(runtime, both, tmp_path):
    run = Run.open(both)
    predictor = Predictor(run)
    predictor.decision = replace(predictor.decision, weights=ScoreWeights(1.0, 0.5, 0.25, ""))
    write(run, predictor, installed(runtime), tmp_path / "exported")
    model = defectloc.load(tmp_path / "exported", threads=1)
    assert_all_equal(model, predictor)
    for one, other in zip(model.predict(photographs()), predictor.predict(photographs()), strict=True):
        np.testing.assert_allclose(one.log_odds, other.log_odds, atol=1e-4)


def test_a_map_of_the_whole_photograph_beside_a_decision_in_tiles(both, command, tmp_path):
    installed("onnx")
    folder = Path(shutil.copytree(both.parents[1], tmp_path / "outputs"))
    run = next(folder.glob("spots/fold0-*"))
    record = json.loads((run / "run.json").read_text())["settings"]["data"]
    data = [f"data.{name}={record[name]}" for name in ("root", "good", "defective", "masks")]
    options = ["data.tiles=64", "patch_head.steps=6", *CAM, "decision.score=fusion", f"outputs={folder}"]
    outcome = command("train", *WITH_CLASS_NETWORK, *data, *options)
    assert outcome.code == 0, outcome.err
    predictor = Predictor(Run.open(run))
    assert (predictor.kind, predictor.decision.score, predictor.tiling) == ("cam", "fusion", None)
    write(Run.open(run), predictor, "onnx", tmp_path / "exported")
    assert_all_equal(defectloc.load(tmp_path / "exported", threads=1), predictor)


def test_the_script_gives_the_same(kept, predictor, monkeypatch, capsys):
    images = photographs()
    for number, image in enumerate(images):
        Image.fromarray(image).save(f"{number:02d}.png")
    names = [f"{number:02d}.png" for number in range(len(images))]
    monkeypatch.setattr(sys, "argv", ["run_model.py", *names, "--model", str(kept), "--maps", "maps", "--threads", "1"])
    assert run_model.main() == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, wanted in zip(lines, predictor.predict(images), strict=True):
        assert line["verdict"] == wanted.verdict
        assert (line["height"], line["width"]) == wanted.size
        np.testing.assert_allclose(line["score"], wanted.score, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(line["novelty"], wanted.novelty, rtol=1e-3)
        heat = np.load(Path("maps") / line["map"])
        np.testing.assert_allclose(heat, wanted.anomaly_map, atol=1e-3 * np.ptp(wanted.anomaly_map))
        assert line["n_boxes"] == len(wanted.boxes)


def test_the_command_exports_and_predict_takes_it(tiled, spots, command):
    installed("onnx")
    outcome = command("export", f"run={tiled.folder}", "output=exported", "compare=6", "threads=1")
    assert outcome.code == 0, outcome.err
    assert "0 verdicts and the boxes of 0 differ" in outcome.out
    names = ["comparison.json", "model.json", "photograph.onnx", "run_model.py", "run_tiles.py", "tile.onnx"]
    assert files_below(Path("exported")) == [".lock", *names]
    for model, output in ((tiled.folder, "by_run"), ("exported", "by_export")):
        outcome = command("predict", f"run={model}", f"images={spots[1] / 'bad'}", f"output={output}", "threads=1")
        assert outcome.code == 0, outcome.err
    one, other = (pd.read_csv(f"{name}/predictions.csv") for name in ("by_run", "by_export"))
    assert one[["path", "verdict", "n_boxes"]].equals(other[["path", "verdict", "n_boxes"]])
    np.testing.assert_allclose(one["score"], other["score"], rtol=1e-3, atol=1e-3)
    assert len(files_below(Path("by_export/overlays"))) == len(other) == 12


def test_an_export_in_tiles_takes_the_place_of_a_whole_one(exported, fitted, predictor, tiled):
    run = Run.open(next(fitted.glob("pill/fold0-*")))
    whole = ["model.json", "model.onnx", "run_model.py"]
    # Not listed in model.json, so of somebody else.
    (exported / "model.onnx").write_text("mine")
    in_tiles = files_below(exported)
    write(tiled, predictor, "onnx", exported)
    assert files_below(exported) == in_tiles
    (exported / "model.onnx").unlink()
    in_tiles = files_below(exported)
    write(run, Predictor(run), "onnx", exported)
    assert files_below(exported) == whole
    write(tiled, predictor, "onnx", exported)
    assert files_below(exported) == in_tiles


def swap(folder: Path) -> None:
    other = folder / "other"
    (folder / "tile.onnx").rename(other)
    (folder / "photograph.onnx").rename(folder / "tile.onnx")
    other.rename(folder / "photograph.onnx")


SPOILED = {
    "tile": (lambda folder: flip(folder / "tile.onnx"), "tile.onnx is not the file"),
    "photograph": (lambda folder: flip(folder / "photograph.onnx"), "photograph.onnx is not the file"),
    "gone": (lambda folder: (folder / "photograph.onnx").unlink(), "photograph.onnx"),
    "swapped": (swap, "tile.onnx is not the file"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_was_tampered_with_is_refused_in_one_sentence(name, exported, monkeypatch, capsys):
    spoil, says = SPOILED[name]
    spoil(exported)
    with pytest.raises(defectloc.DefectlocError, match=says):
        defectloc.load(exported)
    monkeypatch.setattr(sys, "argv", ["run_model.py", "a.png", "--model", str(exported)])
    assert run_model.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert name == "swapped" or says in said


@pytest.mark.slow
def test_a_lite_network_in_tiles(spots, command, tmp_path):
    pytest.importorskip("timm")
    options = ["data.tiles=64", "patch_head.steps=6", "model=efficientnet_lite0", f"outputs={tmp_path / 'o'}"]
    outcome = command("train", *TILED, *spots[2], *options)
    assert outcome.code == 0, outcome.err
    run = Run.open(next((tmp_path / "o").glob("spots/fold0-*")))
    predictor = Predictor(run)
    for runtime in RUNTIMES:
        write(run, predictor, installed(runtime), tmp_path / runtime)
        assert_all_equal(defectloc.load(tmp_path / runtime, threads=1), predictor)
