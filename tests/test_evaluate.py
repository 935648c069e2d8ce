"""Scores of maps that come from elsewhere."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.handmade import square

RAW = ["localization.normalization=none", "localization.threshold=0.5"]


@pytest.fixture
def folders(tmp_path):
    """Two defects with perfect maps, and a good part with a cold one."""
    for name, mask in (("cut/000", square(1, 1, 4, 4)), ("hole/000", square(5, 5, 9, 9))):
        path = tmp_path / "masks" / f"{name}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path)
        save_map(tmp_path / "maps" / f"{name}.npy", mask)
    save_map(tmp_path / "maps" / "good" / "000.npy", square(0, 0, 0, 0))
    return tmp_path


def save_map(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, mask.astype(np.float32))


def scores(command, folder, *arguments, masks="masks"):
    outcome = command(
        "evaluate", f"maps={folder / 'maps'}", f"masks={folder / masks}", f"output={folder / 's.json'}", *arguments
    )
    assert outcome.code == 0, outcome.err
    return json.loads((folder / "s.json").read_text()), outcome


def perfect(found):
    names = ("pixel_auroc", "pixel_ap", "aupro", "box_f1_50", "pointing_game", "max_box_acc_v2", "balanced_accuracy")
    return {name: found[name] for name in names} == dict.fromkeys(names, 1.0)


def test_perfect_maps_score_1(command, folders):
    found, _ = scores(command, folders, *RAW)
    assert perfect(found)


@pytest.mark.parametrize("kind", ["npz", "tiff", "png"])
def test_other_formats(command, folders, kind):
    for path in list((folders / "maps").rglob("*.npy")):
        values = np.load(path)
        if kind == "npz":
            np.savez(path.with_suffix(".npz"), map=values)
        else:
            picture = values if kind == "tiff" else (values * 255).astype(np.uint8)
            Image.fromarray(picture).save(path.with_suffix(f".{kind}"))
        path.unlink()
    assert perfect(scores(command, folders, *RAW)[0])


def test_one_archive_of_named_maps(command, folders):
    arrays = {}
    for path in list((folders / "maps").rglob("*.npy")):
        arrays[path.relative_to(folders / "maps").with_suffix("").as_posix()] = np.load(path)
        path.unlink()
    np.savez(folders / "maps" / "all.npz", **arrays)
    assert perfect(scores(command, folders, *RAW)[0])


def test_coco_boxes(command, folders):
    coco = {
        "images": [
            {"id": 1, "file_name": "cut/000.png", "height": 10, "width": 10},
            {"id": 2, "file_name": "hole/000.png", "height": 10, "width": 10},
            {"id": 3, "file_name": "good/000.png", "height": 10, "width": 10},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [5, 5, 4, 4]},
        ],
        "categories": [{"id": 1, "name": "defect"}],
    }
    (folders / "truth.json").write_text(json.dumps(coco))
    found, _ = scores(command, folders, *RAW, masks="truth.json")
    assert found["box_f1_50"] == 1.0
    assert found["pixel_auroc"] is None


def test_maps_of_another_size_are_resized_and_said_once(command, folders):
    for path in (folders / "maps").rglob("*.npy"):
        np.save(path, np.kron(np.load(path), np.ones((4, 4), np.float32)))
    found, outcome = scores(command, folders, *RAW)
    assert found["pixel_auroc"] > 0.99
    assert outcome.err.count("resized bilinearly") <= 1


def test_ignored_pixels(command, folders):
    save_map(folders / "maps" / "good" / "000.npy", square(0, 9, 10, 10))
    assert not perfect(scores(command, folders, *RAW)[0])
    Image.fromarray(np.where(square(0, 9, 10, 10), 255, 0).astype(np.uint8)).save(folders / "edge.png")
    assert perfect(scores(command, folders, *RAW, f"ignore_mask={folders / 'edge.png'}")[0])


def test_an_ignored_strip_splits_no_defect(command, folders):
    mask = square(1, 1, 9, 4)
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(folders / "masks" / "cut" / "000_mask.png")
    save_map(folders / "maps" / "cut" / "000.npy", mask)
    Image.fromarray(np.where(square(4, 0, 6, 10), 255, 0).astype(np.uint8)).save(folders / "strip.png")
    found, _ = scores(command, folders, *RAW, f"ignore_mask={folders / 'strip.png'}", "localization.boxes=components")
    assert found["n_true_boxes"] == 2
    assert found["aupro"] == found["instance_f1"] == 1


@pytest.mark.parametrize("normalization", ["minmax", "max", "ivr"])
def test_under_a_normalisation_per_image_good_images_are_not_decided(command, folders, normalization):
    rng = np.random.default_rng(0)
    for name in ("000", "001"):
        np.save(folders / "maps" / "good" / f"{name}.npy", rng.random((10, 10)).astype(np.float32) / 100)
    found, outcome = scores(command, folders, f"localization.normalization={normalization}")
    decided = ("balanced_accuracy", "accuracy", "recall", "specificity", "confusion", "escapes", "overkill")
    assert {name: found[name] for name in decided} == dict.fromkeys(decided)
    assert found["false_boxes_per_good_image"] is None
    assert found["intervals_95"]["balanced_accuracy"] is None
    # What does not need good images is measured on the others, and the ranking is by raw maps.
    assert found["box_f1_50"] == found["box_precision_50"] == found["instance_f1"] == found["auroc"] == 1
    assert found["n_boxes"] == 2
    assert "no image is decided" in " ".join(outcome.out.split())


def test_perfect_maps_have_no_interval_without_a_width(command, folders):
    found, _ = scores(command, folders, *RAW)
    low, high = found["intervals_95"]["balanced_accuracy"]
    assert low < 0.7
    assert high == 1


def test_masks_of_all_images_are_black_for_good_ones(command, folders):
    for name in ("cut/000", "hole/000"):
        path = folders / "masks" / f"{name}_mask.png"
        path.rename(path.with_name("000.png"))
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folders / "masks" / "cut" / "001.png")
    save_map(folders / "maps" / "cut" / "001.npy", square(0, 0, 0, 0))
    found, _ = scores(command, folders, *RAW)
    assert found["confusion"] == {"tp": 2, "fn": 0, "fp": 0, "tn": 2}


def test_an_empty_mask_of_a_defect_is_refused(command, folders):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folders / "masks" / "cut" / "000_mask.png")
    sentence = command("evaluate", f"maps={folders / 'maps'}", f"masks={folders / 'masks'}", *RAW).sentence
    assert "000_mask.png" in sentence


@pytest.mark.parametrize("kind", ["npy", "npz", "png", "tiff"])
def test_damaged_maps_and_masks(command, folders, kind):
    arguments = (f"maps={folders / 'maps'}", f"masks={folders / 'masks'}", *RAW)
    path = folders / "maps" / "hole" / f"000.{kind}"
    path.with_suffix(".npy").unlink()
    path.write_bytes(b"")
    assert "cannot be read as a map" in command("evaluate", *arguments).sentence
    path.unlink()
    save_map(path.with_suffix(".npy"), square(5, 5, 9, 9))
    mask = folders / "masks" / "hole" / "000_mask.png"
    mask.write_bytes(mask.read_bytes()[:60])
    assert "000_mask.png" in command("evaluate", *arguments).sentence


def test_bad_input(command, folders, tmp_path):
    arguments = (f"maps={folders / 'maps'}", f"masks={folders / 'masks'}")
    save_map(folders / "maps" / "cut" / "001.npy", square(0, 0, 1, 1))
    assert "cut/001 has no mask" in command("evaluate", *arguments, *RAW).sentence
    (folders / "maps" / "cut" / "001.npy").unlink()
    (folders / "maps" / "hole" / "000.npy").rename(folders / "maps" / "good" / "001.npy")
    assert "hole/000" in command("evaluate", *arguments, *RAW).sentence
    (folders / "maps" / "good" / "001.npy").rename(folders / "maps" / "hole" / "000.npy")
    np.save(folders / "maps" / "hole" / "000.npy", np.full((10, 10), np.nan, np.float32))
    assert "finite" in command("evaluate", *arguments, *RAW).sentence
    (folders / "maps" / "hole" / "000.npy").write_bytes(b"no array")
    assert "cannot be read as a map" in command("evaluate", *arguments, *RAW).sentence
    assert "is not a folder" in command("evaluate", "maps=nowhere", arguments[1], *RAW).sentence
    assert "neither a folder" in command("evaluate", arguments[0], "masks=nowhere", *RAW).sentence
    assert "validation" in command("evaluate", *arguments, "localization.normalization=good").sentence
    assert "threshold" in command("evaluate", *arguments, "localization.threshold=2").sentence
