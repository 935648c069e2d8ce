"""Flips are a finite set of views: exact, chosen by (seed, epoch, image), stored once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from defectloc.data.datasets import FeatureDataset, ImageDataset
from defectloc.data.views import AXES, Views, flip
from defectloc.errors import DefectlocError
from tests.conftest import SYNTHETIC

FLIPS = [*SYNTHETIC, "model=densenet121", "augmentation=flips", "features.dtype=float32"]


def test_a_view_is_an_exact_flip():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(flip(image, "plain"), image)
    np.testing.assert_array_equal(flip(image, "horizontal")[0, :, 0], [6, 3, 0])
    np.testing.assert_array_equal(flip(image, "vertical")[:, 0, 0], [9, 0])
    np.testing.assert_array_equal(flip(image, "both")[0, 0], image[1, 2])
    assert all(np.array_equal(flip(flip(image, view), view), image) for view in AXES)


def test_choices_depend_on_seed_epoch_and_image_and_on_nothing_else():
    def chosen(seed):
        return [[Views(list(AXES), seed).draw(epoch, index) for index in range(200)] for epoch in range(5)]

    draws = np.array(chosen(0))
    np.testing.assert_array_equal(draws, chosen(0))
    assert (draws != chosen(1)).mean() > 0.5
    assert (draws[0] != draws[1]).mean() > 0.5
    # 1,000 draws of four: a view is expected 250 times, with a standard deviation of 14.
    assert np.bincount(draws.ravel(), minlength=4).min() > 190


def test_unknown_view_is_named():
    with pytest.raises(DefectlocError, match="diagonal"):
        Views(["plain", "diagonal"], 0)


def test_stored_views_are_chosen_as_streamed_ones(synthetic):
    paths = sorted((synthetic / "pill" / "train" / "good").glob("*.png"))[:6]
    views = Views(["vertical", "plain", "both"], seed=3)
    streamed = ImageDataset(paths, [0] * 6, 64, views)
    from defectloc.data.images import read_image

    stored = [[flip(read_image(path), name).transpose(2, 0, 1) for path in paths] for name in views.names]
    dataset = FeatureDataset(stored[0], [0] * 6, stored[1:], views.draw)
    for epoch in range(4):
        for index in range(6):
            np.testing.assert_array_equal(dataset[epoch, index][0], streamed[epoch, index][0])


@pytest.mark.slow
def test_stored_fit_equals_a_streamed_one(command):
    assert "in 4 views" in command("train", *FLIPS).err
    images = {path.parent.name: 0 for path in Path("outputs/.features").glob("*/*.npy")}
    assert len(images) == 4
    assert "streamed" in command("train", *FLIPS, "features.cache=false").err
    stored, streamed = (pd.read_csv(path)["train_loss"] for path in Path("outputs").glob("pill/*/history.csv"))
    np.testing.assert_allclose(stored, streamed, rtol=1e-4)
    outcome = command("train", *[typed for typed in FLIPS if "flips" not in typed], "outputs=plain")
    assert "features: stored\n" in outcome.err
    (plain,) = (pd.read_csv(path)["train_loss"] for path in Path("plain").glob("pill/*/history.csv"))
    assert np.abs(plain - stored).max() > 10 * np.abs(streamed - stored).max()


def test_only_training_images_are_stored_in_other_views(command):
    import json

    assert command("train", *FLIPS, "training.epochs=1").code == 0
    counts = {}
    for key in Path("outputs/.features").glob("*/key.json"):
        notes = [json.loads(note.read_text()) for note in key.parent.glob("*-*.json")]
        counts[json.loads(key.read_text())["view"]] = sum(len(note["digests"]) for note in notes)
    (record,) = Path("outputs").glob("pill/*/run.json")
    n_train = json.loads(record.read_text())["n_train"]
    assert counts == {"plain": 59, "horizontal": n_train, "vertical": n_train, "both": n_train}


def test_views_beside_a_random_pipeline_are_refused(command):
    outcome = command("train", *SYNTHETIC, "augmentation=light", "augmentation.views=[plain,both]")
    assert "only views can be stored" in outcome.sentence
    assert "diagonal" in command("train", *SYNTHETIC, "augmentation.views=[diagonal]").sentence
