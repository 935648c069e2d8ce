"""Photographs that are wider than high, and an input that is."""

import cv2
import numpy as np
import pandas as pd
import pytest

import defectloc
from defectloc.runs.directory import Run
from tests.conftest import MEMORY

HEIGHT, WIDTH = 40, 100


@pytest.fixture
def strips(tmp_path):
    """Write grey strips; defective ones have a bright square right of the middle."""
    rng = np.random.default_rng(0)
    for label in ("good", "bad"):
        for number in range(20 if label == "good" else 6):
            image = rng.integers(90, 110, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            if label == "bad":
                image[14:26, 64:78] = 250
            path = tmp_path / "data" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    return tmp_path / "data"


@pytest.mark.parametrize("size", ["data.image_size=[64,160]", "data.image_size=64"])
def test_a_wide_input_finds_the_defect_where_it_is(strips, command, tmp_path, size):
    rest = [each for each in MEMORY if not each.startswith(("data", "subset", "training"))]
    options = ["data=folder", f"data.root={strips}", "subset=strips", "training=none", *rest]
    outcome = command("train", *options, size, f"outputs={tmp_path / 'o'}")
    assert outcome.code == 0, outcome.err
    note = "data.image_size=64 is the shorter side: photographs are seen at 160 x 64 px"
    assert (note in outcome.err) == size.endswith("=64")
    (folder,) = (tmp_path / "o" / "strips").glob("fold0-*")
    run = Run.open(folder)
    assert run.image_size == (64, 160)
    assert run.maps("memory").cells[run.images()["path"].iloc[0]].shape == (8, 20)
    bad, good = defectloc.load(folder).predict([strips / "bad" / "0.png", strips / "good" / "0.png"])
    assert bad.anomaly_map.shape == (HEIGHT, WIDTH)
    # Random weights see it far around.
    weight = bad.anomaly_map - good.anomaly_map
    rows, columns = np.indices(weight.shape)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(20, abs=7)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(71, abs=8)
    written = pd.read_csv(next(folder.glob("localization/*/predictions.csv")))
    assert written.loc[written["label"] == 1, "score"].min() > written.loc[written["label"] == 0, "score"].max()


FEW = ["attribution.batch_size=8", "attribution.rise_masks=6"]


def test_explain_shows_wide_inputs(strips, command, tmp_path):
    rest = [each for each in MEMORY if not each.startswith(("data", "subset"))]
    options = ["data=folder", f"data.root={strips}", "subset=strips", *rest, "data.image_size=32"]
    assert command("train", *options, f"outputs={tmp_path / 'o'}").code == 0
    (folder,) = (tmp_path / "o" / "strips").glob("fold0-*")
    for method, cells in (("memory", (4, 8)), ("gradcam", (2, 4))):
        outcome = command("explain", f"run={folder}", f"method={method}", "select=defective", "n=1", *FEW)
        assert outcome.code == 0, outcome.err
        written = folder / "explain" / f"{method}-defective"
        (sheet,) = written.glob("sheet.png")
        with np.load(written / "explanations.npz") as found:
            assert found["maps"].shape == (1, *cells)
            assert found["image_size"].tolist() == [32, 64]
            if method == "memory":
                values = found["maps"][0] - np.median(found["maps"])
        assert cv2.imread(str(sheet)).shape[1] > 100
        (picture,) = (written / "single").rglob("*.png")
        high, wide, _ = cv2.imread(str(picture)).shape
        assert wide > high
    column = (values.clip(0) * np.arange(8)).sum() / values.clip(0).sum()
    assert 8 * column + 3.5 == pytest.approx(64 * 71 / WIDTH, abs=10)
    assert command("report", f"run={folder}").code == 0
    assert "A model (vgg16, 64 x 32 px; " in (folder / "report.html").read_text()
    budgets = ["comparison.methods=[gradcam,rise]", "comparison.images=1", "comparison.images_perturbation=1"]
    tests = ["comparison.images_faithfulness=1", "comparison.steps_faithfulness=3", "comparison.images_sanity=1"]
    outcome = command("explain", f"run={folder}", "compare=true", *budgets, *tests, *FEW)
    assert outcome.code == 0, outcome.err
    table = pd.read_csv(folder / "explain" / "comparison.csv")
    assert table["insertion"].between(0, 1).all()
    assert set(table["method"]) == {"gradcam", "rise"}
