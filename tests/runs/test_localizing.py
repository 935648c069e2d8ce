"""Post-processing of a run written by hand."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from defectloc import notes as said
from defectloc.config import DecisionConfig, Score
from defectloc.localization.decision import Decision
from defectloc.runs.directory import Run, rows_of
from tests.handmade import CASE_STUDY, cells, five_images, localized, post_process, square, write_run


@pytest.fixture
def run(tmp_path) -> Run:
    return write_run(tmp_path, five_images())


def boxes_of(run: Run, metrics: dict) -> list[tuple]:
    table = pd.read_csv(localized(run, metrics) / "boxes.csv")
    return [tuple(row) for row in table[["path", "x0", "y0", "x1", "y1"]].itertuples(index=False)]


def test_single_box_spans_all_pixels_above_the_threshold_and_row_0_counts(run):
    metrics = post_process(run, {"threshold": 0.6, "boxes": "single"})
    assert boxes_of(run, metrics) == [("bad/0.png", 0, 0, 2, 2), ("bad/1.png", 0, 0, 10, 10)]


def test_components_find_each_defect(run):
    metrics = post_process(run, {"threshold": 0.6, "boxes": "components"})
    assert boxes_of(run, metrics)[1:] == [("bad/1.png", 8, 8, 10, 10), ("bad/1.png", 0, 0, 2, 2)]


def test_a_region_that_stays_below_the_peak_gets_no_box(run):
    localization = {"normalization": "none", "threshold": 50, "boxes": "components", "min_peak": 85}
    assert boxes_of(run, post_process(run, localization))[1:] == [("bad/1.png", 8, 8, 10, 10)]


def test_metrics_by_hand(run):
    metrics = post_process(run, {"threshold": 0.3, "boxes": "components"})
    assert metrics["confusion"] == {"tp": 2, "fn": 1, "fp": 0, "tn": 1}
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert (metrics["n_train"], metrics["n_validation"], metrics["n_test"], metrics["n_masks"]) == (7, 3, 4, 3)
    # Above 0.3 of the range: the cell's own 2 x 2 pixels, so 3 boxes fit their defects; one defect is missed.
    assert metrics["box_f1_50"] == pytest.approx(2 * 3 / (3 + 4))
    assert metrics["false_boxes_per_good_image"] == 0
    assert set(metrics["seconds"]) == {"features", "fit", "predict", "localize", "evaluate"}
    for name in ("pixel_auroc", "pixel_ap", "aupro", "pointing_game", "max_box_acc_v2"):
        assert 0 <= metrics[name] <= 1


def test_scores_of_the_validation_split_are_those_of_images_that_chose_no_threshold(tmp_path):
    """Of noise the best threshold of the same images seems to tell the classes."""
    rng = np.random.default_rng(0)
    noise = [
        {"path": f"{i}.png", "split": "validation", "label": i % 2, "cells": rng.normal(size=(5, 5)).astype(np.float32)}
        for i in range(24)
    ]
    run = write_run(tmp_path, [*five_images()[:4], *noise])
    decision = {"score": Score["class"], "threshold_from": "validation", "calibrate": False}
    found = post_process(run, decision=decision)["validation"]["balanced_accuracy"]
    validation, config = rows_of(run.images(), "validation"), DecisionConfig(**decision)
    held_out, own = (
        balanced_accuracy_score(each["label"], each["predicted"])
        for each in (Decision.cross_fit(validation, config), Decision.fit(validation, config).apply(validation))
    )
    assert found == pytest.approx(held_out)
    assert found < own


def test_found_again(run):
    first = post_process(run)
    path = run.folder / "localization" / first["localization"] / "metrics.json"
    before = path.stat().st_mtime_ns
    assert post_process(run) == first
    assert path.stat().st_mtime_ns == before


def test_masks_that_come_later_are_scored(tmp_path):
    images = [image | {"mask": None} for image in five_images()]
    run = write_run(tmp_path, images)
    assert post_process(run)["pixel_auroc"] is None
    run = write_run(tmp_path, five_images())
    assert post_process(run)["pixel_auroc"] is not None


def test_defect_without_mask_is_left_out_of_pixels_and_boxes_only(tmp_path, capsys):
    images = five_images()
    images[2]["mask"] = None
    metrics = post_process(write_run(tmp_path, images), {"threshold": 0.3})
    assert metrics["confusion"]["fn"] == 1
    assert metrics["n_true_boxes"] == 3
    assert "1 defective test images have no mask" in capsys.readouterr().err


def test_what_cannot_be_measured_is_null(tmp_path):
    good = [image for image in five_images() if image["label"] == 0]
    metrics = post_process(write_run(tmp_path, good))
    text = json.dumps(metrics, allow_nan=False)
    assert json.loads(text)["auroc"] is None
    assert metrics["balanced_accuracy"] is None
    assert metrics["box_f1_30"] is None


def test_good_normalization_uses_good_validation_maps(run):
    setting = {"normalization": "good", "threshold": 3.0, "boxes": "components"}
    metrics = post_process(run, setting)
    notes = json.loads((localized(run, metrics) / "localizer.json").read_text())
    pooled = np.concatenate(
        [i["cells"].ravel() for i in five_images() if i["split"] == "validation" and not i["label"]]
    )
    assert notes["scale"]["zero"] == pytest.approx(pooled.mean(), abs=1e-6)
    assert notes["scale"]["unit"] == pytest.approx(pooled.std(), abs=1e-6)
    assert len(boxes_of(run, metrics)) == 3


def test_ignored_cells_are_left_out_of_the_scale(tmp_path):
    run = write_run(tmp_path, five_images())
    Image.fromarray(np.where(square(2, 2, 4, 4), 255, 0).astype(np.uint8)).save(tmp_path / "fixture.png")
    setting = {"normalization": "good", "threshold": 3.0, "boxes": "components"}
    metrics = post_process(run, setting, ignore_mask=str(tmp_path / "fixture.png"))
    notes = json.loads((localized(run, metrics) / "localizer.json").read_text())
    good = [i["cells"] for i in five_images() if i["split"] == "validation" and not i["label"]]
    kept = np.concatenate([np.delete(values.ravel(), 6) for values in good])
    assert notes["scale"]["zero"] == pytest.approx(kept.mean(), abs=1e-6)
    assert notes["scale"]["unit"] == pytest.approx(kept.std(), abs=1e-6)


def test_good_quantile_leaves_the_share_below(run):
    setting = {"normalization": "none", "threshold_from": "good_quantile", "quantile": 1.0, "boxes": "components"}
    metrics = post_process(run, setting)
    notes = json.loads((localized(run, metrics) / "localizer.json").read_text())
    # The cell's centre lies between pixels, so the highest good pixel is a little below the highest cell.
    assert -2 < notes["threshold"] <= 0.5
    assert "2 good validation images" in notes["threshold_from"]


@pytest.mark.parametrize("use_masks", [False, True])
def test_threshold_from_validation(run, use_masks):
    setting = {"normalization": "none", "threshold_from": "validation", "use_masks": use_masks, "boxes": "components"}
    metrics = post_process(run, setting)
    notes = json.loads((localized(run, metrics) / "localizer.json").read_text())
    assert 0 < notes["threshold"] < 99


def test_one_class_in_validation_falls_back_and_says_so(tmp_path, capsys):
    images = [i for i in five_images() if not (i["split"] == "validation" and i["label"])]
    decision = {"threshold_from": "validation", "threshold": 0.4}
    metrics = post_process(write_run(tmp_path, images), None, decision)
    assert "no defective image" in capsys.readouterr().err
    folder = next(tmp_path.glob(f"outputs/part/*/localization/{metrics['localization']}"))
    assert json.loads((folder / "decision.json").read_text())["threshold"]["probability"] == 0.4


def test_review_band(run):
    decision = {"threshold_from": "validation", "max_escape_rate": 0.0, "max_overkill_rate": 0.0}
    metrics = post_process(run, None, decision)
    table = pd.read_csv(localized(run, metrics) / "predictions.csv")
    assert set(table["verdict"]) <= {"good", "review", "defective"}
    assert metrics["share_to_review"] is not None


def test_flat_map_gives_no_box(tmp_path):
    images = five_images()
    images[0]["cells"] = cells({}, cold=3.0)
    run = write_run(tmp_path, images)
    metrics = post_process(run, {"threshold": 0.0})
    assert "bad/0.png" not in [box[0] for box in boxes_of(run, metrics)]
    assert metrics["confusion"]["tp"] == 2


def test_ignored_pixels_count_for_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(said, "_said", set())
    images = five_images()
    run = write_run(tmp_path, images)
    Image.fromarray(np.where(square(8, 8, 10, 10), 255, 0).astype(np.uint8)).save(tmp_path / "fixture.png")
    metrics = post_process(run, {"threshold": 0.3, "boxes": "components"}, ignore_mask=str(tmp_path / "fixture.png"))
    assert metrics["n_true_boxes"] == 3
    assert ("bad/1.png", 8, 8, 10, 10) not in boxes_of(run, metrics)
    # It has the size of the photographs; that of MaxBoxAccV2 is nobody's mistake.
    assert "resized" not in capsys.readouterr().err


def test_coco_file_is_valid(run):
    coco = pytest.importorskip("pycocotools.coco")
    metrics = post_process(run, {"threshold": 0.3, "boxes": "components"})
    loaded = coco.COCO(localized(run, metrics) / "boxes.coco.json")
    assert len(loaded.getImgIds()) == 4
    assert len(loaded.getAnnIds()) == 3


@pytest.fixture
def moved(fused, tmp_path) -> tuple[Run, Path]:
    """A fit, and a copy of its data."""
    run = Run.open(fused)
    return run, Path(shutil.copytree(run.record["root"], tmp_path / "data"))


def test_photographs_that_were_changed_guide_no_map(moved, command):
    run, root = moved
    for path in run.images()["path"]:
        photograph = np.asarray(Image.open(root / path))
        Image.fromarray(255 - photograph).save(root / path)
    asked = ["localize", f"run={run.folder}", f"root={root}", "localization.threshold=0.123", "figures=false"]
    assert "was changed since" in command(*asked).sentence
    assert "was changed since" in command("report", f"run={run.folder}", f"root={root}").sentence
    assert command(*asked, "localization.upsampling=bilinear").code == 0


def test_the_photograph_guides_boxes_and_scores_of_pixels(moved, command):
    run, root = moved
    asked = ["localize", f"run={run.folder}", f"root={root}", "figures=false"]
    metrics = []
    for upsampling in ("guided", "bilinear"):
        outcome = command(*asked, f"localization.upsampling={upsampling}")
        assert outcome.code == 0, outcome.err
        metrics.append(json.loads((Path(outcome.out.splitlines()[-1]) / "metrics.json").read_text()))
    guided, bilinear = metrics
    assert guided["auroc"] == bilinear["auroc"]
    assert guided["pixel_auroc"] != bilinear["pixel_auroc"]
    # As it was asked for by the fit, whose scores are found again.
    assert guided["pixel_auroc"] == json.loads((run.folder / "metrics.json").read_text())["pixel_auroc"]


def test_command_needs_no_torch(run):
    code = (
        f"import sys; sys.argv = ['localize', 'run={run.folder}', *{CASE_STUDY}]; import defectloc.localize as c; "
        "c.main(); assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda folder: (folder / "run.json").unlink(), "not the folder of a finished fit"),
        (lambda folder: (folder / "predictions.csv").unlink(), "half-finished"),
        (lambda folder: (folder / "run.json").write_text('{"format": 99}'), "format 99"),
        (lambda folder: (folder / "run.json").write_text("{"), "cannot be read"),
        (lambda folder: next(folder.glob("maps/cam-*/maps.npz")).write_bytes(b"PK"), "no maps of localization.map=cam"),
    ],
)
def test_unusable_run_is_one_sentence(run, command, spoil, word):
    spoil(run.folder)
    assert word in command("localize", f"run={run.folder}", *CASE_STUDY).sentence
    assert not (run.folder / "localization").exists()


@pytest.mark.parametrize(
    "override",
    ["localization.threshold=1.5", "localization.quantile=0", "localization.boxes=many", "decision.threshold=1"],
)
def test_value_out_of_range(run, command, override):
    assert override.partition("=")[0] in command("localize", f"run={run.folder}", *CASE_STUDY, override).sentence


def test_figures(run, command):
    outcome = command("localize", f"run={run.folder}", *CASE_STUDY, "figures=true")
    assert outcome.code == 0, outcome.err
    folder = next((run.folder / "localization").iterdir())
    for path in (folder / "figures/test.png", folder / "figures/thresholds.png", run.folder / "figures/history.png"):
        assert path.stat().st_size > 1000
