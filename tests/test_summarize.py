"""Runs side by side."""

import json

import pandas as pd
import pytest
from handmade import five_images, write_run

from defectloc.config import DecisionConfig, LocalizationConfig
from defectloc.localize import post_process


@pytest.fixture
def outputs(tmp_path):
    """Two folds with different images, each at two thresholds."""
    for fold in (0, 1):
        images = [image | {"path": f"f{fold}/{image['path']}"} for image in five_images()]
        if fold:
            images = images[1:]
        run = write_run(tmp_path, images, fold=fold)
        for threshold in (0.3, 0.6):
            setting = LocalizationConfig(threshold=threshold, boxes="components")
            post_process(run, setting, DecisionConfig())
    return tmp_path / "outputs"


def test_mean_and_sd_over_folds(outputs, command):
    outcome = command("summarize", f"outputs={outputs}")
    assert outcome.code == 0, outcome.err
    table = pd.read_csv(outputs / "summary.csv")
    assert list(table["n_folds"]) == [2, 2]
    row = table[table["threshold"] == 0.3].iloc[0]
    accuracies = [(2 / 3 + 1) / 2, (1 / 2 + 1) / 2]
    assert row["balanced_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert row["balanced_accuracy_sd"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert (row["tp"], row["fn"], row["fp"], row["tn"]) == (3, 2, 0, 2)
    assert "±" in (outputs / "summary.md").read_text()
    assert (outputs / "part" / "thresholds-abc.png").stat().st_size > 1000


def test_pooled_boxes_name_each_image_once(outputs, command):
    coco = pytest.importorskip("pycocotools.coco")
    command("summarize", f"outputs={outputs}")
    files = sorted((outputs / "part" / "boxes").glob("*.json"))
    assert len(files) == 2
    loaded = coco.COCO(files[0])
    names = [image["file_name"] for image in loaded.dataset["images"]]
    assert len(names) == len(set(names)) == 7


def test_half_finished_run_is_named_and_skipped(outputs, command):
    record = next(outputs.glob("part/fold1-*/run.json"))
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 99}))
    outcome = command("summarize", f"outputs={outputs}")
    assert "fold1-abc" in outcome.err
    assert set(pd.read_csv(outputs / "summary.csv")["n_folds"]) == {1}


def test_nothing_there(command):
    assert "holds no finished run" in command("summarize", "outputs=nowhere").sentence


def test_published_row_stands_beside(outputs, command):
    record = next(outputs.glob("part/fold0-*/run.json"))
    for path in record.parent.glob("localization/*/metrics.json"):
        path.write_text(path.read_text().replace('"subset": "part"', '"subset": "pill"'))
    command("summarize", f"outputs={outputs}")
    table = pd.read_csv(outputs / "summary.csv")
    assert list(table.loc[table["subset"] == "pill", "published_balanced_accuracy"]) == [0.817, 0.817]
