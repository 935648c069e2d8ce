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
    refused = command("explain", f"run={folder}", "method=gradcam", f"outputs={tmp_path / 'o'}")
    assert refused.code == 2
