"""The benchmark runs in all its parts on a few small images; its ratios are what they say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from defectloc.speed.case_study import Loop, Network
from defectloc.speed.equivalence import differences
from defectloc.speed.machine import operations
from defectloc.speed.steps import counted_passes
from PIL import Image

from defectloc.model.classifier import Classifier
from defectloc.reporting.speed import comparison, shown_comparison, shown_parts
from tests.conftest import SYNTHETIC

SMOKE = [
    *[typed for typed in SYNTHETIC if not typed.startswith(("training.", "figures"))],
    "benchmark.limit=50",
    "benchmark.epochs=1",
    "benchmark.folds=2",
    "benchmark.steps=1",
    "benchmark.shares=[0.5,1.0]",
    "benchmark.image_sizes=[32]",
    "benchmark.memory_images=[8]",
]


@pytest.mark.filterwarnings("ignore:defect types")
@pytest.mark.slow
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
    seconds = table[["case_study", "streaming", "ours", "ratio_case_study", "ratio_streaming"]]
    assert (seconds > 0).all().all()
    assert np.isfinite(seconds).all().all()
    np.testing.assert_allclose(table["ratio_streaming"], table["streaming"] / table["ours"])
    assert 0 <= float(table.loc["2 folds, training=fast", "balanced_accuracy"].partition(" ")[0]) <= 1
    assert table.loc["2 folds, 1 epochs", "basis"] == "2 times the measured fold"
    parts = pd.read_csv(folder / "parts.csv").set_index(["part", "figure"])["value"]
    assert parts["store", "images through the trunk for 2 folds once more"] == 0
    # Random weights are drawn by the seed, so that another one is another trunk.
    assert parts["store", "images through the trunk for a second seed"] == 50
    assert parts["thresholds", "images through the trunk"] == 0
    assert parts["store", "on disk, per image"] > 512 * 2 * 2 * 2
    assert parts["difference to streaming", "streamed: log_odds"] == 0
    assert parts["difference to streaming", "float32 store: features"] < 1e-5
    assert parts["difference to streaming", "float16 store: features"] < 1e-3
    assert parts["maps", "32 px, cam / cam"] == 1
    assert parts["maps", "32 px, fusion / cam"] > 0
    assert parts["maps", "32 px, memory.npz"] > 0
    assert parts["maps", "32 px, stored for the memory, per image"] > 0
    assert {"machine", "trunk", "tail", "number of images", "image size", "prediction", "memory"} <= {
        part for part, _ in parts.index
    }
    text = (folder / "benchmark.md").read_text()
    assert "extrapolated" in text
    assert "against streaming" in outcome.out
    with Image.open(folder / "benchmark.png") as figure:
        assert min(figure.size) > 300


def test_ratios_and_marks():
    rows = [
        {
            "task": "a",
            "case_study": 70.0,
            "streaming": 30.0,
            "ours": 10.0,
            "balanced_accuracy": "0.9",
            "basis": "measured",
        },
        {"task": "b", "case_study": 7.0, "streaming": 3.0, "ours": 2.0, "balanced_accuracy": None, "basis": "twice a"},
    ]
    table = comparison(rows)
    assert list(table["ratio_case_study"]) == [7.0, 3.5]
    assert list(table["ratio_streaming"]) == [3.0, 1.5]
    shown = shown_comparison(table)
    assert list(shown["from the store"]) == ["10.0 s", "~ 2.0 s"]
    assert list(shown["balanced accuracy"]) == ["0.9", "–"]
    parts = pd.DataFrame(
        {"part": ["p"] * 3, "figure": ["f"] * 3, "value": [0.0, 1234567.0, 0.01234], "unit": ["", "B", "s"]}
    )
    assert list(shown_parts(parts.assign(basis="measured"))["value"]) == ["0", "1,234,567 B", "0.0123 s"]


def test_the_case_studys_network_learns_from_the_eleventh_convolution_on(tmp_path):
    convolutions = [layer for layer in Network().features if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.weight.requires_grad for layer in convolutions] == [False] * 10 + [True] * 3
    assert Network()(torch.rand(2, 3, 64, 64)).shape == (2, 2)
    paths = []
    for index in range(12):
        paths.append(tmp_path / f"{index}.png")
        Image.new("RGB", (40, 40), (index * 20, 0, 0)).save(paths[-1])
    loop = Loop(paths, [index % 2 for index in range(12)], 32, "cpu")
    before = [parameter.clone() for parameter in loop._network.parameters()]
    loop.step()
    # The second batch has two images only; a step is one of ten.
    loop.step()
    loop.predict()
    changed = [not torch.equal(a, b) for a, b in zip(before, loop._network.parameters(), strict=True)]
    assert changed == [False] * 20 + [True] * 8


def test_operations_of_a_convolution():
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 1))
    total, first = operations(layers, torch.zeros(1, 3, 5, 4))
    assert first == 2 * 5 * 4 * 8 * 3 * 9
    assert total == first + 2 * 5 * 4 * 4 * 8


def test_passes_are_counted_and_the_network_is_left_as_it_was():
    original = Classifier.levels
    with counted_passes() as passes, torch.inference_mode():
        Classifier("resnet50", "layer4", "torchvision").features(torch.zeros(3, 3, 32, 32))
    assert passes.images == 3
    assert Classifier.levels is original


def test_differences_count_turned_decisions():
    first = np.array([[1.0, 2.0]]), np.array([-3.0, 0.01, 2.0, -2.0])
    other = np.array([[1.0, 2.5]]), np.array([-3.0, -0.01, -2.0, -2.5])
    found = differences(first, other)
    assert found == {"features": 0.25, "log_odds": 4.0, "decisions": 2, "near": 1}
