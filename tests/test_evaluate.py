"""Scores of maps that come from elsewhere."""

import json

import numpy as np
import pytest
from handmade import square
from PIL import Image

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
