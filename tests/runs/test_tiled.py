"""Runs on photographs in tiles."""

import json

import numpy as np
import pandas as pd
import pytest

import defectloc
from defectloc.localization.boxes import corners
from defectloc.runs.directory import Run
from defectloc.runs.tables import read_shortcut_table
from tests.conftest import TILED
from tests.spots import photograph


def test_maps_scores_and_boxes_are_those_of_the_photographs(tiled):
    sizes = tiled.images().set_index("path")
    shapes = {cells.shape for cells in tiled.maps("fusion").cells.values()}
    assert shapes == {(16, 24), (20, 12)}
    for path, cells in tiled.maps("memory").cells.items():
        assert cells.shape == (sizes.at[path, "height"] // 8, sizes.at[path, "width"] // 8)
    metrics = json.loads((tiled.folder / "metrics.json").read_text())
    assert metrics["auroc"] == 1.0
    # Below half of a tile: no box would be so near if maps were shifted.
    assert metrics["pixel_auroc"] > 0.95


def test_a_loaded_run_predicts_as_it_was_scored_and_boxes_follow_the_photograph(tiled, spots):
    _, root, _ = spots
    model = defectloc.load(tiled.folder)
    written = pd.read_csv(next(tiled.folder.glob("localization/fusion-*/predictions.csv")))
    rows = written[written["split"] == "test"]
    found = model.predict([root / path for path in rows["path"]])
    # Not the verdict: photographs of plain noise differ so little that a defect makes them unlike the others.
    assert [each.predicted for each in found] == list(rows["predicted"])
    assert [each.score for each in found] == pytest.approx(list(rows["score"]), rel=1e-3, abs=2e-2)
    rng = np.random.default_rng(5)
    large = photograph(rng, 128, 199, (60, 90))
    before, after = (model.predict(np.ascontiguousarray(large[:, x : x + 192])) for x in (7, 0))
    assert before.predicted == after.predicted
    assert min(before.score, after.score) > rows.loc[rows["label"] == 0, "score"].max()
    assert after.anomaly_map.shape == (128, 192)
    # Of the map, since a verdict of few validation images gives no boxes.
    (x0, y0, x1, y1), (u0, v0, u1, v1) = (
        corners(model.localizer.boxes(each.anomaly_map))[0] for each in (before, after)
    )
    assert (u0 + u1 - x0 - x1) / 2 == pytest.approx(7, abs=4)
    assert (v0 + v1 - y0 - y1) / 2 == pytest.approx(0, abs=4)
    # Of tiles one photograph has all cores, so that the levels of one lie in memory.
    assert not model.is_small(2**30)
    # Smaller than a tile, and of any aspect.
    for height, width in ((20, 30), (9, 150)):
        assert model.predict(photograph(rng, height, width)).anomaly_map.shape == (height, width)


@pytest.mark.slow
def test_what_is_not_stored_gives_the_same(tiled, spots, command, tmp_path):
    options = ["data.tiles=64", "features.cache=false", "patch_head.steps=3", f"outputs={tmp_path / 'o'}"]
    outcome = command("train", *TILED, *spots[2], *options)
    assert outcome.code == 0, outcome.err
    assert not list((tmp_path / "o").glob(".features/*/*.npy"))
    (folder,) = (tmp_path / "o" / "spots").glob("fold0-*")
    streamed = Run.open(folder).maps("memory").cells
    for path, stored in tiled.maps("memory").cells.items():
        # Stored at half precision.
        assert streamed[path] == pytest.approx(stored, abs=0.02 * float(stored.max()))


@pytest.mark.slow
def test_summarize_keeps_tilings_apart(spots, command, tmp_path):
    _, _, data = spots
    given = [*TILED, *data, f"outputs={tmp_path / 'o'}", "localization=memory"]
    for options in ([], ["data.tiles=64"], ["data.tiles=64", "data.tile_overlap=0.5"]):
        assert command("train", *given, *options).code == 0
    assert command("summarize", f"outputs={tmp_path / 'o'}").code == 0
    table = pd.read_csv(tmp_path / "o" / "summary.csv")
    assert list(table["n_folds"]) == [1, 1, 1]
    assert table["setting"].nunique() == 3


def test_auto_says_what_it_chose_and_what_it_costs(spots, command, tmp_path):
    _, _, data = spots
    given = [*[each for each in TILED if not each.startswith("data.image")], *data, "localization=memory"]
    outcome = command("train", *given, f"outputs={tmp_path / 'o'}", "data.tiles=auto", "data.image_size=32")
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("data.tiles=auto")]
    assert "each of 32 px at 32 px" in line
    assert "s and" in line
    whole = command("train", *given, f"outputs={tmp_path / 'w'}", "data.tiles=auto", "data.image_size=96")
    assert "are seen whole" in whole.err
    (run,) = (tmp_path / "w" / "spots").glob("fold0-*")
    assert "tiling" not in Run.open(run).product("memory").made_from


def test_explain_gives_the_maps_of_the_run_in_tiles(tiled, command, tmp_path):
    """Without a class network; photographs of two sizes have maps of two shapes."""
    for method in ("memory", "fusion"):
        outcome = command(
            "explain", f"run={tiled.folder}", f"method={method}", f"output={tmp_path}", "n=4", "threads=1"
        )
        assert outcome.code == 0, outcome.err
        with np.load(tmp_path / f"{method}-all" / "explanations.npz", allow_pickle=False) as file:
            found = dict(file)
        own, ends = tiled.maps(method), np.cumsum(found["shapes"].prod(1))
        assert {tuple(shape) for shape in found["shapes"]} == {(16, 24), (20, 12)}
        assert found["image_size"].tolist() == (found["shapes"] * 8).tolist()
        pieces = np.split(found["maps"], ends[:-1])
        for path, values, shape in zip(found["paths"], pieces, found["shapes"], strict=True):
            cells = own.cells[path]
            # The run's features were rounded on their way through the store.
            assert values.reshape(shape) == pytest.approx(cells, rel=0.05, abs=0.05 * float(cells.max()))
        assert (tmp_path / f"{method}-all" / "sheet.png").is_file()


@pytest.mark.parametrize("options", [["method=layercam"], ["compare=true"]])
def test_without_a_class_network_its_methods_are_refused(options, tiled, command):
    assert "method=memory and method=fusion" in command("explain", f"run={tiled.folder}", *options).sentence


def test_beside_a_class_network_methods_and_the_map_in_tiles_explain_and_compare(spots, command, tmp_path):
    fitted = [each for each in TILED if each != "training=none"]
    given = [*fitted, *spots[2], f"outputs={tmp_path / 'o'}", "data.tiles=64", "localization=memory"]
    given += ["training.epochs=1", "data.limit=20"]
    assert command("train", *given).code == 0
    (folder,) = (tmp_path / "o" / "spots").glob("fold0-*")
    assert command("explain", f"run={folder}", "method=layercam", "n=1", "threads=1").code == 0
    few = [f"comparison.{name}=4" for name in ("images", "images_perturbation")]
    few += ["comparison.images_faithfulness=1", "comparison.steps_faithfulness=2", "comparison.images_sanity=1"]
    compared = ["explain", f"run={folder}", "compare=true", "comparison.methods=[cam,memory]", *few, "threads=1"]
    outcome = command(*compared)
    assert outcome.code == 0, outcome.err
    table = pd.read_csv(folder / "explain" / "comparison.csv").set_index("method")
    # All test images, so that the scores are the run's own.
    metrics = json.loads((folder / "metrics.json").read_text())
    assert table.loc["memory", "pixel_auroc"] == pytest.approx(metrics["pixel_auroc"], abs=0.02)
    assert table.loc["memory", ["insertion", "deletion", "sanity"]].notna().all()
    # Tiles of a photograph of either size.
    assert 8 <= table.loc["memory", "evaluations"] <= 12
    assert table.loc["cam", "evaluations"] == 2
    # Another tiling of the same run has maps of its own.
    before = {path.name for path in (folder / "explain" / "maps").glob("memory-*")}
    assert command("train", *given, "data.tile_overlap=0.5").code == 0
    assert command("explain", f"run={folder}", "method=memory", "n=1", "threads=1").code == 0
    assert len({path.name for path in (folder / "explain" / "maps").glob("memory-*")} - before) == 1


def test_fusion_beside_a_class_network_checks_for_shortcuts(spots, command, tmp_path):
    fitted = [each for each in TILED if each != "training=none"]
    given = [*fitted, *spots[2], f"outputs={tmp_path / 'o'}", "data.tiles=64", "patch_head.steps=6"]
    assert command("train", *given, "training.epochs=1", "figures=true").code == 0
    (folder,) = (tmp_path / "o" / "spots").glob("fold0-*")
    run = Run.open(folder)
    assert len(read_shortcut_table(run.product("fusion"))) == len(run.images())
    assert "tiles of 64 px" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["data.tiles=16"], "from 32 to"),
        (["data.tiles=99999"], "from 32 to"),
        (["data.tiles=true"], "none, auto or"),
        (["data.tiles=64", "data.tile_overlap=0.6"], "share of a tile"),
        (["data.tiles=64", "data.image_size=[64,96]"], "has two sides"),
        (["data.tiles=64", "memory.levels=[conv4_3.pool3]"], "multiple of 24"),
        (["data.synthetic_size=[64,64,64]"], "[height,width]"),
    ],
)
def test_impossible_tiles_are_refused(options, words, spots, command, tmp_path):
    given = [each for each in TILED if not any(each.split("=")[0] == option.split("=")[0] for option in options)]
    assert words in command("train", *given, *spots[2], *options, f"outputs={tmp_path / 'o'}").sentence
