"""Masks and annotations that label the patch head's patches."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from defectloc import checks, config
from defectloc.data import sources
from defectloc.data.digests import Digests
from defectloc.runs.directory import Run
from defectloc.runs.fold import Fold
from defectloc.runs.preparing import prepare
from defectloc.runs.supervision import supervision_of
from tests.conftest import FUSION, REST


def maps_of(folder: Path) -> np.ndarray:
    return np.stack(list(Run.open(folder).maps("fusion").cells.values()))


def test_masks_make_another_fusion_beside_the_first(fused, command):
    before = maps_of(fused)
    outcome = command("train", *FUSION, "supervision.masks=all")
    assert outcome.code == 0, outcome.err
    assert len(list(fused.glob("maps/fusion-*/maps.npz"))) == 2
    assert not np.array_equal(maps_of(fused), before)


def test_more_masks_than_there_are_is_told_before_the_fit(command):
    sentence = command("train", *FUSION, "supervision.masks=999").sentence
    assert "supervision.masks=999, but only" in sentence
    assert not list(Path("outputs").glob("pill/fold0-*/run.json"))


@pytest.mark.parametrize("value", ["-1", "some", "1.5", "true"])
def test_what_is_no_number_of_masks_is_refused(command, value):
    assert "supervision.masks" in command("train", *FUSION, f"supervision.masks={value}").sentence


@pytest.mark.parametrize("given", [("supervision.masks=all",), ("localization.map=memory", "decision.score=memory")])
def test_turned_masks_that_are_added_after_the_fit_are_refused(command, given):
    """Those of training images where they label patches, those of test images where they are scored."""
    for label, folder in enumerate(("good", "defective")):
        Path("photos", folder).mkdir(parents=True)
        for number in range(10):
            pixels = np.random.default_rng(10 * label + number).integers(0, 256, (64, 96, 3), np.uint8)
            Image.fromarray(pixels).save(f"photos/{folder}/{number}.png")
    fit = ["data=folder", "data.root=photos", "subset=mine", "n_folds=2", "data.image_size=[32,64]", "training=none"]
    fit += [*REST, "patch_head.steps=4", "localization.threshold=0.05"]
    outcome = command("train", *fit)
    assert outcome.code == 0, outcome.err
    catalog = pd.read_csv(next(Path("outputs").glob("mine/fold0-*/catalog.csv")))
    labels = "train" if "supervision.masks=all" in given else "test"
    Path("photos/masks").mkdir()
    for path in catalog.loc[(catalog["split"] == labels) & (catalog["label"] == 1), "path"]:
        Image.fromarray(np.full((96, 64), 255, np.uint8)).save(Path("photos/masks") / Path(path).name)
    sentence = command("train", *fit, "data.masks=photos/masks", *given).sentence
    assert "is 96 x 64, its photograph 64 x 96" in sentence
    assert len(list(Path("outputs").glob("mine/fold0-*"))) == 1


def annotation(fused: Path, split: str, label: int) -> dict:
    """Draw a box on every image of a split."""
    catalog = pd.read_csv(fused / "catalog.csv", keep_default_na=False)
    rows = list(catalog[(catalog["split"] == split) & (catalog["label"] == label)].itertuples())
    return {
        "images": [{"id": k, "file_name": r.path, "width": r.width, "height": r.height} for k, r in enumerate(rows)],
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": [1, 1, 5, 5]} for k in range(len(rows))],
    }


def test_annotations_of_training_images_make_another_fusion(fused, command):
    Path("boxes.json").write_text(json.dumps(annotation(fused, "train", 1)))
    before = maps_of(fused)
    assert command("train", *FUSION, "data.annotations=boxes.json").code == 0
    assert len(list(fused.glob("maps/fusion-*/maps.npz"))) == 2
    assert not np.array_equal(maps_of(fused), before)


def test_annotations_of_held_out_images_are_not_used(fused, command):
    """They are part of the setting all the same, since they label patches of other folds."""
    Path("boxes.json").write_text(json.dumps(annotation(fused, "test", 1)))
    before = maps_of(fused)
    assert command("train", *FUSION, "data.annotations=boxes.json").code == 0
    assert len(list(fused.glob("maps/fusion-*/maps.npz"))) == 2
    np.testing.assert_array_equal(maps_of(fused), before)


def summary_of(command) -> pd.DataFrame:
    assert command("summarize").code == 0
    return pd.read_csv("outputs/summary.csv")


def test_supervised_folds_are_one_setting_and_told_from_others(fused, command, tmp_path):
    """Each fold uses the masks of its own training images."""
    Path("boxes.json").write_text(json.dumps(annotation(fused, "train", 1)))
    for given in ("supervision.masks=2", "data.annotations=boxes.json"):
        for fold in (0, 1):
            assert command("train", *FUSION, "training.epochs=0", given, f"fold={fold}").code == 0
    table = summary_of(command)
    table = table[~table["runs"].str.endswith(fused.name.partition("-")[2])]
    assert list(table["n_folds"]) == [2, 2]
    supervised = sorted(label.partition("supervision ")[2].partition(", ")[0] for label in table["setting"])
    assert supervised == ["masks 0", "masks 2"]
    (drawn,) = [label for label in table["setting"] if "supervision masks 0" in label]
    assert re.search(r"supervision annotations [0-9a-f]{8}$", drawn)
    # Both are localizations of one fit, which says nothing of what it was asked for first.
    assert table["runs"].nunique() == 1
    for name in table["localization"]:
        outcome = command(
            "annotate",
            "subset=pill",
            f"fingerprint={table['runs'].iloc[0].rpartition('-')[2]}",
            f"localization_name={name}",
            f"output={tmp_path / name}",
        )
        assert outcome.code == 0, outcome.err
        assert "folds 0, 1" in outcome.err


def test_a_defect_on_a_good_image_is_refused(fused, command):
    content = annotation(fused, "train", 0)
    Path("boxes.json").write_text(json.dumps(content))
    sentence = command("train", *FUSION, "data.annotations=boxes.json").sentence
    assert f"marks a defect in {content['images'][0]['file_name']}, which is a good image" in sentence


def test_annotations_of_another_size_are_refused(fused, command):
    content = annotation(fused, "train", 1)
    content["images"][0]["width"] += 10
    Path("boxes.json").write_text(json.dumps(content))
    assert "px; it is" in command("train", *FUSION, "data.annotations=boxes.json").sentence


def prepared(*arguments: str) -> Fold:
    config.register()
    with initialize_config_dir(str(config.directory()), version_base="1.3"):
        return prepare(checks.typed(compose("train", [*FUSION, *arguments])))


@pytest.mark.parametrize("given", ["data.limit=40", "data.within_fold=[0,5]"])
def test_annotations_of_images_that_are_left_out_go_to_no_other(narrow, given):
    """Images of several folders have the same names."""
    _, whole = sources.load(prepared().settings.data, "pill", Digests(None))
    used = prepared(given).catalog
    defective = set(whole.loc[whole["label"] == 1, "path"])
    for drawn in (defective, defective - set(used["path"])):
        images = [{"id": path, "file_name": path, "width": 64, "height": 64} for path in sorted(drawn)]
        boxes = [{"image_id": path, "bbox": [1, 1, 5, 5]} for path in sorted(drawn)]
        Path("boxes.json").write_text(json.dumps({"images": images, "annotations": boxes}))
        fold = prepared(given, "data.annotations=boxes.json")
        found, training = supervision_of(fold), set(fold.rows("train").query("label == 1")["path"])
        assert set(found.annotated) == training & drawn
        assert bool(found.made_from) == bool(training & drawn)


def test_a_missing_file_is_told_at_once(command):
    assert command("train", *FUSION, "data.annotations=none.json").sentence.startswith("data.annotations=none.json")
