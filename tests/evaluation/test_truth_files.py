"""Masks and COCO files beside anybody's maps."""

import json

import numpy as np
import pytest
from PIL import Image

from defectloc import notes
from defectloc.errors import DefectlocError
from defectloc.evaluation.truth_files import find_truth


def write_mask(path, mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path)


def coco() -> dict:
    return {
        "images": [
            {"id": 1, "file_name": "cut/000.png", "height": 10, "width": 20},
            {"id": 2, "file_name": "good/000.png", "height": 10, "width": 20},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4.5]}],
    }


def found_in(tmp_path, content) -> dict:
    (tmp_path / "truth.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return find_truth(["cut/000", "good/000"], tmp_path / "truth.json")


def test_masks_are_matched_by_path_or_by_a_stem_that_is_unique(tmp_path) -> None:
    write_mask(tmp_path / "cut" / "000_mask.png", np.eye(4, 5))
    write_mask(tmp_path / "hole" / "000_mask.png", np.ones((4, 5)))
    write_mask(tmp_path / "hole" / "001.png", np.eye(4, 5))
    truths = find_truth(["cut/000", "hole/000", "elsewhere/001", "good/000"], tmp_path)
    assert truths["cut/000"].size == (4, 5)
    np.testing.assert_array_equal(truths["cut/000"].read((4, 5)), np.eye(4, 5, dtype=bool))
    assert truths["hole/000"].read((4, 5)).all()
    assert truths["elsewhere/001"].read((4, 5)).any()
    assert not truths["good/000"].read((4, 5)).any()
    with pytest.raises(DefectlocError, match="hole/000"):
        find_truth(["cut/000", "hole/001", "good/000"], tmp_path)
    with pytest.raises(DefectlocError, match="other/000 has no mask"):
        find_truth(["other/000"], tmp_path)


def test_a_map_takes_no_mask_of_another_kind_of_defect(tmp_path) -> None:
    for name in ("crack/000", "scratch/007"):
        write_mask(tmp_path / f"{name}_mask.png", np.eye(4))
    with pytest.raises(DefectlocError, match=r"map crack/007 has no mask in .* of its kind, only scratch/007; maps of"):
        find_truth(["crack/000", "crack/007"], tmp_path)


@pytest.mark.parametrize("name", ["crack/007", "crack/ground_truth/007", "masks/007", "007"])
@pytest.mark.parametrize("of_map", ["test/crack/007", "crack/heat_maps/007", "maps/007", "007"])
def test_a_mask_of_a_unique_stem_lies_in_any_folder_of_its_kind(tmp_path, capsys, monkeypatch, name, of_map) -> None:
    monkeypatch.setattr(notes, "_said", set())
    write_mask(tmp_path / f"{name}_mask.png", np.eye(4))
    write_mask(tmp_path / "hole" / "000.png", np.eye(4))
    assert find_truth([of_map, "hole/000"], tmp_path)[of_map].mask == tmp_path / f"{name}_mask.png"
    assert capsys.readouterr().err == ""


def test_a_mask_from_a_folder_of_another_name_is_said(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(notes, "_said", set())
    for number in (1, 2):
        write_mask(tmp_path / "hole" / f"{number}.png", np.eye(4))
    find_truth(["elsewhere/1", "elsewhere/2"], tmp_path)
    assert capsys.readouterr().err.count("the map elsewhere/1 takes the mask of hole/1, whose folder") == 1


def test_a_good_part_takes_no_mask_of_a_defect(tmp_path) -> None:
    write_mask(tmp_path / "cut" / "000_mask.png", np.eye(4))
    write_mask(tmp_path / "cut" / "001_mask.png", np.eye(4))
    with pytest.raises(DefectlocError, match=r"cut/001 of .* has no map"):
        find_truth(["cut/000", "good/001"], tmp_path)


def test_a_good_part_takes_a_black_mask_by_its_stem(tmp_path) -> None:
    for name in ("000.png", "ok/001.png"):
        write_mask(tmp_path / name, np.zeros((4, 5)))
    truths = find_truth(["good/000", "good/001"], tmp_path)
    assert [truth.size for truth in truths.values()] == [(4, 5), (4, 5)]


def test_two_masks_of_one_image_are_refused(tmp_path) -> None:
    write_mask(tmp_path / "000_mask.png", np.eye(4))
    write_mask(tmp_path / "000.png", np.eye(4))
    with pytest.raises(DefectlocError, match="two masks of 000"):
        find_truth(["000"], tmp_path)


def test_an_empty_mask_of_a_defective_image_is_refused_by_name(tmp_path, capsys) -> None:
    for name in ("cut/000_mask.png", "good/001_mask.png", "002.png"):
        write_mask(tmp_path / name, np.zeros((4, 4)))
    truths = find_truth(["cut/000", "good/001", "002"], tmp_path)
    with pytest.raises(DefectlocError, match="000_mask"):
        truths["cut/000"].read((4, 4))
    assert not truths["good/001"].read((4, 4)).any()
    # Sets that have a mask for every image leave those of good ones black.
    assert not truths["002"].read((4, 4)).any()
    assert "count as good" in capsys.readouterr().err


def test_coco_boxes(tmp_path) -> None:
    truths = found_in(tmp_path, coco())
    assert truths["cut/000"].boxes.tolist() == [[1, 2, 4, 6.5]]
    assert truths["cut/000"].size == (10, 20)
    assert truths["cut/000"].read((10, 20)) is None
    assert truths["good/000"].boxes.shape == (0, 4)


def test_boxes_that_touch_beyond_the_border_are_cut(tmp_path) -> None:
    content = coco()
    content["annotations"][0]["bbox"] = [-0.5, 2, 21, 3]
    assert found_in(tmp_path, content)["cut/000"].boxes.tolist() == [[0, 2, 20, 5]]


WRONG = {
    "no JSON": "{",
    "a list of results": [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}],
    "no images": {"annotations": []},
    "images without a size": {"images": [{"id": 1, "file_name": "a.png"}], "annotations": []},
    "text for a size": {"images": [{"id": 1, "file_name": "a", "height": "10", "width": 5}], "annotations": []},
    "an id twice": {"images": [coco()["images"][0]] * 2, "annotations": []},
    "a name twice": {"images": [coco()["images"][0], coco()["images"][0] | {"id": 2}], "annotations": []},
    "unknown image": coco() | {"annotations": [{"image_id": 9, "bbox": [1, 2, 3, 4]}]},
    "outside": coco() | {"annotations": [{"image_id": 1, "bbox": [15, 2, 9, 4]}]},
    "no area": coco() | {"annotations": [{"image_id": 1, "bbox": [1, 2, 0, 4]}]},
    "three numbers": coco() | {"annotations": [{"image_id": 1, "bbox": [1, 2, 3]}]},
    "not finite": coco() | {"annotations": [{"image_id": 1, "bbox": [1, 2, float("nan"), 4]}]},
    "null": coco() | {"annotations": None},
    "nested too deeply": "[" * 100_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_another_file_ends_in_one_sentence(tmp_path, what: str) -> None:
    with pytest.raises(DefectlocError, match=r"truth\.json") as caught:
        found_in(tmp_path, WRONG[what])
    assert "\n" not in str(caught.value)


def test_random_changes_to_a_coco_file_never_end_otherwise(tmp_path) -> None:
    rng = np.random.default_rng(0)
    text, sentences = json.dumps(coco()), []
    for _ in range(200):
        start = int(rng.integers(len(text)))
        changed = text[:start] + text[start + int(rng.integers(1, 9)) :]
        try:
            found_in(tmp_path, changed)
        except DefectlocError as error:
            sentences.append(str(error))
    assert len(sentences) > 50
    assert all("\n" not in sentence for sentence in sentences)


def test_neither_folder_nor_file(tmp_path) -> None:
    with pytest.raises(DefectlocError, match="neither a folder"):
        find_truth(["a"], tmp_path / "nowhere")
    with pytest.raises(DefectlocError, match="holds no masks"):
        find_truth(["a"], tmp_path)
