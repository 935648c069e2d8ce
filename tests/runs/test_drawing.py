"""The figures of a run: what is chosen for them, and how often it is read."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.config import DecisionConfig, LocalizationConfig
from defectloc.figures import sheet
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import Grid, upsample
from defectloc.runs import drawing
from defectloc.runs.tables import with_decisions
from defectloc.runs.threshold_curve import COARSE, CURVE_SIDE, curve_size

SIZE = 40
LOCALIZER = Localizer.fit(LocalizationConfig(normalization="none", threshold=2.0, boxes="components"))
DECISION = Decision.fit(pd.DataFrame({"label": [], "log_odds": []}), DecisionConfig(score="class", threshold=0.25))

METRICS = {"subset": "part", "fold": 0, "shortcut": None}


@dataclass
class HandMaps:
    """Maps of 5 x 5 cells over images of 40 x 40 pixels; counts what is asked of it."""

    root: Path
    images: pd.DataFrame
    cells: dict
    masks: dict
    kind: str = "fusion"
    ignore: np.ndarray | None = None
    reads: Counter = field(default_factory=Counter)

    @property
    def n_masks(self):
        return len(self.masks)

    def split(self, name):
        return self.images[self.images["split"] == name]

    def map(self, row, size=None):
        self.reads["map", row.path, size] += 1
        return upsample(self.cells[row.path], size or (row.height, row.width), SIZE, Grid(8, 3.5))

    def mask(self, row):
        self.reads["mask", row.path] += 1
        return self.masks.get(row.path)

    def ignored(self, row, size=None):
        return self.ignore


def cells(peak, at=(1, 1)):
    values = np.zeros((5, 5), np.float32)
    values[at] = peak
    return values


@pytest.fixture
def maps(tmp_path):
    """Two defects, the second missed; a false alarm and a good image."""
    rows, masks = [], {}
    of_image = {"bad/0.png": 8.0, "bad/1.png": 1.0, "good/0.png": 4.0, "good/1.png": 0.5}
    for name, peak in of_image.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((SIZE, SIZE, 3), 90, np.uint8)).save(tmp_path / name)
        label = int(name.startswith("bad"))
        log_odds = 1.0 if peak > 2 else -2.0
        rows.append({"path": name, "split": "test", "label": label, "defect_type": "crack" if label else "good"})
        rows[-1] |= {"mask_path": "", "height": SIZE, "width": SIZE, "log_odds": log_odds}
        if label:
            masks[name] = np.zeros((SIZE, SIZE), bool)
            masks[name][8:16, 8:16] = True
    of_cells = {name: cells(peak) for name, peak in of_image.items()}
    return HandMaps(tmp_path, pd.DataFrame(rows), of_cells, masks)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "history.csv").write_text("epoch,train_loss,train_accuracy\n1,0.5,0.75\n")
    return SimpleNamespace(folder=folder, has_class_network=True)


@pytest.fixture
def folder(run, maps):
    """What post-processing leaves."""
    target = run.folder / "localization" / "fusion-12345678"
    target.mkdir(parents=True)
    decided = DECISION.apply(maps.images)
    columns = ["path", "split", "label", "defect_type", "log_odds", "score", "probability", "predicted", "verdict"]
    decided[columns].to_csv(target / "predictions.csv", index=False)
    predicted_defective = decided[decided["predicted"] == 1].itertuples()
    boxes = [LOCALIZER.boxes(maps.map(row)).assign(path=row.path) for row in predicted_defective]
    pd.concat(boxes).to_csv(target / "boxes.csv", index=False)
    maps.reads.clear()
    return target


@pytest.fixture
def sheets(monkeypatch):
    """The groups of panels that were handed to the sheet."""
    calls = []
    original = sheet.draw_sheet
    monkeypatch.setattr(
        sheet, "draw_sheet", lambda groups, *rest: (calls.append(list(groups)), original(groups, *rest))
    )
    return calls


def test_figures_lie_beside_what_they_are_of_and_are_drawn_once(run, maps, folder):
    path = drawing.draw_run(run, maps, METRICS, DECISION, LOCALIZER, folder)
    assert path == folder / "figures" / "test.png"
    assert sorted(p.name for p in path.parent.iterdir()) == ["test.png", "thresholds.png"]
    assert [p.name for p in (run.folder / "figures").iterdir()] == ["history.png"]
    reads = sum(maps.reads.values())
    assert drawing.draw_run(run, maps, METRICS, DECISION, LOCALIZER, folder) == path
    assert sum(maps.reads.values()) == reads


def test_each_mask_is_read_once_and_no_map_at_full_size_of_a_large_image(run, maps, folder):
    drawing.draw_run(run, maps, METRICS, DECISION, LOCALIZER, folder)
    masks = {key: n for key, n in maps.reads.items() if key[0] == "mask"}
    assert masks == {("mask", "bad/0.png"): 1, ("mask", "bad/1.png"): 1}
    # Once for the sheet, once for all thresholds together, and small ones for the scales of colours and thresholds.
    full = {key: n for key, n in maps.reads.items() if key[0] == "map" and key[2] != COARSE}
    assert max(full.values()) == 1
    assert curve_size(4096, 2048) == (CURVE_SIDE, CURVE_SIDE // 2)


def test_the_sheet_shows_verdict_probability_and_threshold(run, maps, folder, sheets):
    drawing.draw_run(run, maps, METRICS, DECISION, LOCALIZER, folder)
    ((defective, good),) = sheets
    assert defective.heading == "Defective images: 1 of 2 predicted defective, 1 missed; lowest score first"
    assert good.heading == "Good images that are predicted defective, false alarms (overkill): 1 of 2"
    assert [panel.name for panel in defective.panels] == ["bad/1.png (crack)", "bad/0.png (crack)"]
    assert [panel.is_right for panel in defective.panels] == [False, True]
    assert [panel.name for panel in good.panels] == ["good/0.png"]
    assert defective.panels[0].verdict == "good, p = 0.119 (threshold 0.250)"
    assert defective.panels[1].verdict == "defective, p = 0.731 (threshold 0.250)"
    shown = defective.panels[1]
    assert shown.image.shape == (sheet.SIDE, sheet.SIDE, 3)
    assert shown.map.shape == shown.mask.shape == (sheet.SIDE, sheet.SIDE)
    assert len(shown.boxes) == 1
    assert len(defective.panels[0].boxes) == 0


def test_a_verdict_for_a_human_is_neither_right_nor_wrong(run, maps, folder, sheets):
    table = pd.read_csv(folder / "predictions.csv")
    table.loc[table["path"] == "bad/0.png", "verdict"] = "review"
    table.to_csv(folder / "predictions.csv", index=False)
    drawing.draw_run(run, maps, METRICS, DECISION, LOCALIZER, folder)
    ((defective, _),) = sheets
    assert [panel.is_right for panel in defective.panels] == [False, None]
    assert defective.panels[1].verdict.startswith("review")


def test_many_images_are_cut_to_those_that_matter_most(run, maps, folder, sheets, monkeypatch):
    monkeypatch.setattr(drawing, "SHEET_IMAGES", 1)
    drawing.draw_run(run, maps, METRICS, DECISION, LOCALIZER, folder)
    ((defective, _),) = sheets
    assert defective.heading.endswith("lowest score first; 1 shown")
    assert [panel.name for panel in defective.panels] == ["bad/1.png (crack)"]


@pytest.mark.parametrize("removed", ["bad", "good"])
def test_a_test_split_of_one_class(run, maps, folder, sheets, removed):
    maps.images = maps.images[~maps.images["path"].str.startswith(removed)]
    maps.masks = {name: mask for name, mask in maps.masks.items() if not name.startswith(removed)}
    drawing.draw_run(run, maps, METRICS, DECISION, LOCALIZER, folder)
    (groups,) = sheets
    assert [len(group.panels) for group in groups] == ([0, 1] if removed == "bad" else [2, 0])


def test_the_truth_of_unknown_and_ignored_defects_is_not_known(maps, folder):
    del maps.masks["bad/1.png"]
    maps.ignore = np.zeros((SIZE, SIZE), bool)
    test = with_decisions(maps.split("test"), folder)
    assert set(drawing._truths(maps, test)) == {"bad/0.png", "good/0.png", "good/1.png"}
    maps.ignore = np.ones((SIZE, SIZE), bool)
    assert set(drawing._truths(maps, test)) == {"good/0.png", "good/1.png"}


def test_the_shortcut_figure_belongs_to_the_fusion(run, maps, folder, monkeypatch):
    product = run.folder / "maps" / "fusion-1234"
    retained = maps.images[["path"]].assign(retained_log_odds=[-1.0, -2.0, 0.5, -2.0])
    good = maps.images[maps.images["label"] == 0].assign(split="validation")
    others = {kind: HandMaps(maps.root, maps.images, maps.cells, maps.masks, kind) for kind in ("cam", "memory")}
    monkeypatch.setattr(drawing, "RunMaps", lambda run, kind, root: others[kind])
    monkeypatch.setattr(drawing, "read_shortcut_table", lambda product: retained)
    run.images = lambda: pd.concat([maps.images, good])
    run.product = lambda kind: None
    run.maps = lambda kind: SimpleNamespace(folder=product, cells=maps.cells)
    metrics = METRICS | {"shortcut": {"retained_share": 0.0, "n_found": 1}}
    drawing.draw_run(run, maps, metrics, DECISION, LOCALIZER, folder)
    assert [p.name for p in product.iterdir()] == ["shortcut.png"]
    before = (product / "shortcut.png").stat().st_mtime_ns
    (folder / "figures" / "test.png").unlink()
    drawing.draw_run(run, maps, metrics, DECISION, LOCALIZER, folder)
    assert (product / "shortcut.png").stat().st_mtime_ns == before
