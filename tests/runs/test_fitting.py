"""What a fit writes beside its weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from defectloc.data.images import find_images
from defectloc.runs.fitting import balanced_weights
from tests.conftest import CAM, two_folders

FIT = [
    "data=folder",
    "data.root=photos",
    "subset=mine",
    "data.image_size=32",
    "n_folds=2",
    "model.weights=none",
    "training.epochs=1",
    "threads=1",
    "device=cpu",
    "figures=false",
    *CAM,
]


@pytest.fixture
def train(command):
    """Train on two folders and give the metrics."""
    two_folders(Path("photos"))

    def start(*arguments: str) -> dict:
        outcome = command("train", *FIT, *arguments)
        assert outcome.code == 0, outcome.err
        return json.loads(next(Path("outputs").glob("mine/fold0-*/metrics.json")).read_text())

    return start


def write_masks(folder: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[4:12, 6:20] = 255
    for image in find_images(Path("photos/defective")):
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(folder / image.name)


def test_balanced_weights_by_hand():
    assert balanced_weights([0, 0, 0, 1]) == [4 / 6, 2.0]


def test_masks_that_are_added_after_the_fit_are_scored_without_another(train):
    assert train()["pixel_auroc"] is None
    write_masks(Path("photos/masks"))
    metrics = train("data.masks=photos/masks")
    assert metrics["pixel_auroc"] is not None
    assert metrics["n_masks"] == metrics["confusion"]["tp"] + metrics["confusion"]["fn"]
    assert len(list(Path("outputs").glob("mine/fold0-*"))) == 1
    assert train()["pixel_auroc"] is None


@pytest.mark.parametrize("name", ["catalog.csv", "predictions.csv"])
def test_a_table_that_cannot_be_read_is_made_again(train, name):
    metrics = train()
    path = next(Path("outputs").glob(f"mine/fold0-*/{name}"))
    before = path.read_bytes()
    path.write_text("nothing\n")
    assert train()["confusion"] == metrics["confusion"]
    assert path.read_bytes() == before
