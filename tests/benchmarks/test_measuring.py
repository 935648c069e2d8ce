"""The benchmark runs in all its parts on a few small images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import SYNTHETIC

SMOKE = [
    *[typed for typed in SYNTHETIC if not typed.startswith(("training.", "figures"))],
    "benchmark.limit=50",
    "benchmark.epochs=1",
    "benchmark.folds=2",
    "benchmark.steps=1",
    "benchmark.image_sizes=[32]",
]
PARTS = {
    "first train",
    "machine",
    "trunk",
    "tail",
    "streaming",
    "case study",
    "store",
    "thresholds",
    "image size",
    "prediction",
    "maps",
    "memory",
    "difference to streaming",
}


@pytest.fixture
def narrow() -> None:
    """The case study's own network has VGG16's usual channels."""


@pytest.mark.filterwarnings("ignore:defect types")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_smoke_run(command):
    outcome = command("benchmark", *SMOKE)
    assert outcome.code == 0, outcome.err
    folder = Path("outputs/benchmark")
    assert sorted(path.name for path in folder.iterdir()) == [
        "benchmark.csv",
        "benchmark.md",
        "benchmark.png",
        "parts.csv",
    ]
    table = pd.read_csv(folder / "benchmark.csv").set_index("task")
    assert len(table) == 5
    seconds = table[["case_study", "streaming", "stored", "ratio_case_study", "ratio_streaming"]]
    assert (seconds > 0).all().all()
    assert np.isfinite(seconds).all().all()
    np.testing.assert_allclose(table["ratio_streaming"], table["streaming"] / table["stored"])
    assert 0 <= float(table.loc["2 folds, training=fast", "balanced_accuracy"].partition(" ")[0]) <= 1
    assert table.loc["2 folds, 1 epochs", "basis"] == "2 times the measured fold"
    parts = pd.read_csv(folder / "parts.csv").set_index(["part", "figure"])["value"]
    assert {part for part, _ in parts.index} == PARTS
    assert parts["store", "images through the trunk for 2 folds once more"] == 0
    # Random weights depend on the seed, so that another one is another trunk.
    assert parts["store", "images through the trunk for a second seed"] == 50
    assert parts["thresholds", "images through the trunk"] == 0
    assert parts["store", "on disk, per image"] > 512 * 2 * 2 * 2
    assert parts["difference to streaming", "streamed: log_odds"] == 0
    assert parts["difference to streaming", "float32 store: features"] < 1e-5
    assert parts["difference to streaming", "float16 store: features"] < 1e-3
    assert parts["maps", "32 px, cam / cam"] == 1
    assert parts["maps", "32 px, fusion / cam"] > 0
    assert parts["maps", "32 px, bank.npz"] > 0
    assert parts["maps", "32 px, stored for the memory bank, per image"] > 0
    stages = parts["first train"].drop(["whole", "peak memory"])
    assert {"features", "fit", "predict", "memory", "fusion", "localize", "evaluate", "figures"} <= set(stages.index)
    assert (stages.drop("rest") > 0).all()
    assert parts["first train", "whole"] == pytest.approx(stages.sum())
    assert parts["first train", "peak memory"] > 100
    text = (folder / "benchmark.md").read_text()
    assert "extrapolated" in text
    assert "ratio to without" in outcome.out
    with Image.open(folder / "benchmark.png") as figure:
        assert min(figure.size) > 300


def test_an_input_that_is_not_square_is_refused_before_the_work(command):
    assert "which compares squares" in command("benchmark", *SMOKE, "data.image_size=[32,64]").sentence
    assert not Path("outputs").exists()
