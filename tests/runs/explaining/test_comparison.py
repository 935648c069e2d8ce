"""`python -m defectloc.explain compare=true` by the real command line."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.files import digest
from defectloc.runs import records

METHODS = "[gradcam,rise,guided-backprop]"
BUDGETS = [
    "compare=true",
    f"comparison.methods={METHODS}",
    "comparison.images=3",
    "comparison.images_perturbation=2",
    "comparison.images_faithfulness=2",
    "comparison.steps_faithfulness=3",
    "comparison.images_sanity=1",
]


def test_compared_methods(run, explain):
    pytest.importorskip("captum")
    outcome = explain(*BUDGETS)
    folder = run.folder / "explain"
    table = pd.read_csv(folder / "comparison.csv")
    found = set(zip(table["method"], table["images"], strict=True))
    both = {(name, images) for name in ("gradcam", "guided-backprop") for images in ("2 + 2", "3 + 3")}
    assert found == both | {("rise", "2 + 2")}
    scores = ["pixel_auroc", "pixel_ap", "aupro", "pointing_game", "insertion", "deletion"]
    assert table[scores].notna().all(axis=None)
    assert table[scores].min(axis=None) >= 0
    assert table[scores].max(axis=None) <= 1
    assert table.groupby("method")["evaluations"].first().to_dict() == {"gradcam": 1, "guided-backprop": 1, "rise": 6}
    assert "guided-backprop" in outcome.out
    assert "| 2 + 2 | rise |" in (folder / "comparison.md").read_text()
    assert (folder / "comparison.png").is_file()
    assert json.loads((folder / "comparison.json").read_text())["budgets"]["rise_masks"] == 6
    files = {p: p.stat().st_mtime_ns for p in (folder / "maps").rglob("*") if p.is_file()}
    # Three and three by two methods, two and two by one, and a map of the randomised model for each.
    assert sum(p.suffix == ".npz" for p in files) == 2 * 6 + 4 + 3
    assert sum(p.suffix == ".json" for p in files) == 3 * 2
    again = explain(*BUDGETS)
    assert pd.read_csv(folder / "comparison.csv").equals(table)
    assert again.out == outcome.out
    assert {p: p.stat().st_mtime_ns for p in (folder / "maps").rglob("*") if p.is_file()} == files


@pytest.mark.slow
def test_a_comparison_of_fewer_images_by_gradient_methods(run, explain):
    """What all methods are compared on is then what the others explain."""
    explain(*BUDGETS, "comparison.methods=[gradcam,rise]", "comparison.images=1")
    table = pd.read_csv(run.folder / "explain" / "comparison.csv")
    found = set(zip(table["method"], table["images"], strict=True))
    assert found == {("gradcam", "1 + 1"), ("rise", "1 + 1"), ("rise", "2 + 2")}


def test_scores_of_a_comparison_are_those_of_the_runs_map(run, explain):
    """All test images by the exact map, against the scores of the run itself."""
    n = run.images().query("split == 'test'")["label"].value_counts()
    rest = [a for a in BUDGETS if not a.startswith(("comparison.methods", "comparison.images="))]
    explain(*rest, "comparison.methods=[cam]", f"comparison.images={n.max()}")
    table = pd.read_csv(run.folder / "explain" / "comparison.csv").set_index("images")
    own = json.loads((run.last_localization() / "metrics.json").read_text())
    for name in ("pixel_auroc", "pixel_ap", "aupro", "pointing_game"):
        assert table.loc[f"{n[1]} + {n[0]}", name] == pytest.approx(own[name], abs=0.02)


def test_a_comparison_without_masks_leaves_their_scores_open(run, explain):
    catalog = pd.read_csv(run.folder / "catalog.csv", keep_default_na=False)
    catalog.assign(mask_path="").to_csv(run.folder / "catalog.csv", index=False)
    # As `train` does where the data set has lost its masks.
    files = run.record["files"] | {"catalog.csv": digest(run.folder / "catalog.csv")}
    records.write_record(run.folder, run.record | {"files": files})
    explain(*BUDGETS, "comparison.methods=[gradcam]")
    row = json.loads((run.folder / "explain" / "comparison.json").read_text())["rows"][0]
    for name in ("pixel_auroc", "pixel_ap", "aupro", "pointing_game", "box_f1_30"):
        assert row[name] is None
    assert row["insertion"] is not None
    assert "–" in (run.folder / "explain" / "comparison.md").read_text()


@pytest.mark.slow
def test_ignored_pixels_count_for_no_score_of_a_comparison(run, explain, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "ignored.png")
    scores = []
    for typed in ([], [f"ignore_mask={tmp_path / 'ignored.png'}"]):
        explain(*BUDGETS, "comparison.methods=[cam]", *typed)
        scores.append(json.loads((run.folder / "explain" / "comparison.json").read_text())["rows"][-1]["pixel_auroc"])
    assert scores[0] != scores[1]
    assert "gone.png" in explain(*BUDGETS, "ignore_mask=gone.png", code=2).sentence
