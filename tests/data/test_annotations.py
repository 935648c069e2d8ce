import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from defectloc.data.annotations import Annotated, Region, cell_shares, marked_cells, read_annotations
from defectloc.errors import DefectlocError

IMAGES = ["part/test/crack/000.png", "part/test/crack/001.png", "part/test/good/000.png"]


def written(content: object) -> Path:
    path = Path("annotations.json")
    path.write_text(json.dumps(content))
    return path


def coco(name: str = "part/test/crack/001.png", bbox: tuple = (10, 20, 30, 40), **more: object) -> Path:
    return written(
        {
            "images": [{"id": 7, "file_name": name, "width": 100, "height": 80}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": list(bbox), **more}],
        }
    )


def label_studio(name: str, kind: str, value: dict) -> Path:
    result = {"type": kind, "original_width": 200, "original_height": 100, "value": value}
    return written([{"data": {"image": name}, "annotations": [{"result": [result]}]}])


def test_a_coco_box() -> None:
    found = read_annotations(coco(), IMAGES)
    assert list(found) == ["part/test/crack/001.png"]
    (region,) = found["part/test/crack/001.png"].regions
    assert region.is_box
    assert region.corners.tolist() == [[10, 20], [40, 60]]
    assert found["part/test/crack/001.png"].size == (80, 100)


def test_a_rectangle_as_polygon_is_a_box_and_another_polygon_is_not() -> None:
    (box,) = read_annotations(coco(segmentation=[[10, 20, 40, 20, 40, 60, 10, 60]]), IMAGES).values()
    assert box.regions[0].is_box
    (outline,) = read_annotations(coco(segmentation=[[10, 20, 40, 20, 25, 60]]), IMAGES).values()
    assert not outline.regions[0].is_box
    assert outline.regions[0].corners.tolist() == [[10, 20], [40, 20], [25, 60]]


def test_two_rectangles_of_one_annotation_are_two_boxes() -> None:
    outlines = [[10, 20, 20, 20, 20, 30, 10, 30], [30, 50, 30, 60, 40, 60, 40, 50, 30, 50]]
    (found,) = read_annotations(coco(segmentation=outlines), IMAGES).values()
    assert [region.is_box for region in found.regions] == [True, True]
    assert [region.corners.tolist() for region in found.regions] == [[[10, 20], [20, 30]], [[30, 50], [40, 60]]]


@pytest.mark.parametrize(
    "name",
    [
        "part/test/crack/001.png",
        "/data/local-files/?d=photos/part/test/crack/001.png",
        "https://host.invalid/data/part/test/crack/001.png",
    ],
)
def test_a_label_studio_box_in_percent(name: str) -> None:
    path = label_studio(name, "rectanglelabels", {"x": 10, "y": 20, "width": 5, "height": 50, "rotation": 0})
    found = read_annotations(path, IMAGES)
    (region,) = found["part/test/crack/001.png"].regions
    np.testing.assert_allclose(region.corners, [[20, 20], [30, 70]])


def test_a_folder_named_as_one_inside_it_does_not_mix_up_images(tmp_path) -> None:
    """Addresses and links lead to `bad/1.png`, which is also the path of another image below the data set `bad`."""
    images = ["1.png", "bad/1.png"]
    path = label_studio("/data/local-files/?d=bad/1.png", "rectanglelabels", {"x": 1, "y": 2, "width": 5, "height": 5})
    (task,) = json.loads(path.read_text())
    assert list(read_annotations(written([task | {"data": task["data"] | {"path": "1.png"}}]), images)) == ["1.png"]
    root, folder = tmp_path / "bad", tmp_path / "yolo"
    for name in images:
        (root / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10)).save(root / name)
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "1.png").symlink_to(root / "1.png")
    (folder / "labels").mkdir()
    (folder / "labels" / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").touch()
    assert list(read_annotations(folder, images, root)) == ["1.png"]


def test_a_label_studio_polygon() -> None:
    path = label_studio("crack/001.png", "polygonlabels", {"points": [[0, 0], [50, 0], [50, 50]]})
    (region,) = read_annotations(path, IMAGES)["part/test/crack/001.png"].regions
    np.testing.assert_allclose(region.corners, [[0, 0], [100, 0], [100, 50]])


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (lambda: coco("part/test/crack/009.png"), "part/test/crack/009.png is not in the data set"),
        (lambda: coco("000.png"), "000.png may be part/test/crack/000.png or part/test/good/000.png"),
        (lambda: coco(bbox=(90, 20, 30, 40)), "a region lies beyond the image part/test/crack/001.png of 100 x 80 px"),
        (lambda: coco(bbox=(10, 20, 0, 40)), "has no area"),
        (lambda: coco(segmentation={"counts": "a", "size": [1, 1]}), "run-length masks are not read"),
        (lambda: coco(segmentation=[[]]), "a region lies beyond the image"),
        (lambda: coco(bbox=(float("inf"), 20, 3, 4)), "a region lies beyond the image"),
        (lambda: written([{"data": "x"}]), "is no Label Studio export"),
        (lambda: written([{"data": {"image": "001.png"}, "annotations": ["x"]}]), "is no Label Studio export"),
        (lambda: label_studio("crack/001.png", "polygonlabels", {"points": 3}), "lies beyond the image"),
        (lambda: written({"shapes": []}), "neither a COCO data set nor a Label Studio export"),
        (lambda: written([1, 2]), "neither a COCO data set nor a Label Studio export"),
        (lambda: written({"images": [], "annotations": []}), "holds no box and no outline"),
        (lambda: written({"images": [{"id": 1}]}), "is no COCO data set"),
        (lambda: Path("missing.json"), "cannot be read as JSON"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(path, sentence: str) -> None:
    with pytest.raises(DefectlocError) as caught:
        read_annotations(path(), IMAGES)
    assert sentence in str(caught.value)


def test_a_rotated_box_is_refused() -> None:
    path = label_studio("crack/001.png", "rectanglelabels", {"x": 1, "y": 2, "width": 5, "height": 5, "rotation": 20})
    with pytest.raises(DefectlocError, match="is rotated"):
        read_annotations(path, IMAGES)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("brushlabels", {"format": "rle", "rle": [0, 1]}),
        ("bitmasklabels", {"imageDataURL": "data:image/png;base64,"}),
        ("vectorlabels", {"vertices": [{"x": 1, "y": 2}], "closed": True}),
        ("ellipselabels", {"x": 1, "y": 2, "radiusX": 3, "radiusY": 4}),
    ],
)
def test_a_region_of_another_kind_is_refused_by_its_name(kind: str, value: dict) -> None:
    """By its size or by its place: models write regions without the one, and kinds yet unknown may lack the other."""
    size = {"original_width": 200, "original_height": 100}
    for result in (size | {"type": kind, "value": {}}, {"type": kind, "value": value}):
        path = written([{"data": {"image": "crack/001.png"}, "annotations": [{"result": [result]}]}])
        with pytest.raises(DefectlocError, match=f"'{kind}' of crack/001.png is not read; draw boxes or polygons"):
            read_annotations(path, IMAGES)


def test_what_is_said_of_a_box_or_an_image_is_no_region() -> None:
    place = {"x": 10, "y": 20, "width": 5, "height": 50, "rotation": 0}
    (task,) = json.loads(label_studio("crack/001.png", "rectangle", place).read_text())
    (box,) = task["annotations"][0]["result"]
    said = {"choices": ["deep"], "textarea": ["x"], "labels": ["defect"], "rating": 3}
    of_box = [box | {"type": kind, "value": place | {kind: value}} for kind, value in said.items()]
    of_image = [{"type": "choices", "value": {"choices": ["deep"]}}, {"type": "relation", "from_id": "a", "to_id": "b"}]
    task["annotations"][0]["result"] += of_box + of_image
    (found,) = read_annotations(written([task]), IMAGES).values()
    assert len(found.regions) == 1


def test_an_image_that_was_turned_in_label_studio_is_refused() -> None:
    value = {"x": 10, "y": 20, "width": 5, "height": 50}
    (task,) = json.loads(label_studio("crack/001.png", "rectanglelabels", value).read_text())
    task["annotations"][0]["result"][0]["image_rotation"] = 90
    with pytest.raises(DefectlocError, match="is turned by 90 degrees in Label Studio"):
        read_annotations(written([task]), IMAGES)


def test_cells_of_a_mask_by_their_share() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:20, 10:25] = True
    shares = cell_shares(mask, (4, 4))
    np.testing.assert_allclose(shares[1], [0, 1, 0.5, 0], atol=1e-6)
    expected = [[-1, -1, -1, -1], [-1, 1, 1, -1], [-1, -1, -1, -1], [0, 0, 0, 0]]
    assert marked_cells(shares).tolist() == expected


def test_a_defect_smaller_than_a_cell_marks_its_cell() -> None:
    mask = np.zeros((40, 40), bool)
    mask[12, 12] = True
    marked = marked_cells(cell_shares(mask, (4, 4)))
    assert (marked == 1).sum() == 1
    assert marked[1, 1] == 1


def test_the_middle_of_a_box_is_a_defect_and_its_rim_may_be() -> None:
    box = Annotated((120, 240), (Region(np.array([[60.0, 30], [140, 90]]), is_box=True),))
    marked = box.cells((12, 12))
    assert marked[6, 5] == 1
    assert (marked[5:7, 4:6] == 1).all()
    assert marked[3, 3] == marked[8, 6] == -1
    outside = np.ones((12, 12), bool)
    outside[2:10, 2:8] = False
    assert (marked[outside] == 0).all()


def test_a_box_of_a_pixel_marks_its_cell() -> None:
    box = Annotated((40, 80), (Region(np.array([[20.0, 10], [21, 11]]), is_box=True),))
    assert np.argwhere(box.cells((4, 4)) == 1).tolist() == [[1, 1]]


def test_an_outline_goes_before_a_box_around_it() -> None:
    outline = Region(np.array([[20.0, 10], [39, 10], [39, 19], [20, 19]]), is_box=False)
    both = Annotated((40, 80), (outline, Region(np.array([[0.0, 0], [80, 40]]), is_box=True)))
    marked = both.cells((4, 4))
    assert marked[1, 1] == 1
    assert (marked[marked != 1] == -1).all()


def test_a_path_that_begins_the_name_goes_before_one_that_goes_on() -> None:
    images = ["crack/000.png", "part/crack/000.png"]
    path = label_studio(
        "/data/local-files/?d=photos/crack/000.png", "polygonlabels", {"points": [[0, 0], [9, 0], [9, 9]]}
    )
    assert list(read_annotations(path, images)) == ["crack/000.png"]
    path = label_studio(
        "/data/local-files/?d=x/part/crack/000.png", "polygonlabels", {"points": [[0, 0], [9, 0], [9, 9]]}
    )
    assert list(read_annotations(path, images)) == ["part/crack/000.png"]


@pytest.mark.parametrize(
    "name",
    ["bad/b/05.png", "/photos/bad/b/05.png", "b/05.png", "bad\\b\\05.png", "/data/local-files/?d=x/bad/b/05.png"],
)
def test_a_name_that_leads_through_other_folders_of_the_data_set_is_refused(name: str) -> None:
    path = coco(name)
    assert list(read_annotations(path, ["bad/a/05.png", "bad/b/05.png"])) == ["bad/b/05.png"]
    with pytest.raises(DefectlocError, match=r"05\.png is not in the data set; bad/a/05\.png lies in another folder"):
        read_annotations(path, ["bad/a/05.png", "bad/b/06.png"])


@pytest.mark.parametrize(
    "name", ["05.png", "a/05.png", "images/05.png", "/data/upload/1/05.png", "https://host.invalid/photos/a/05.png"]
)
def test_a_name_without_folders_or_with_those_of_a_tool_is_found_by_its_end(name: str) -> None:
    images = ["bad/a/05.png", "bad/b/06.png"]
    assert list(read_annotations(coco(name), images)) == ["bad/a/05.png"]
    path = label_studio(name, "polygonlabels", {"points": [[0, 0], [9, 0], [9, 9]]})
    assert list(read_annotations(path, images)) == ["bad/a/05.png"]


def test_predictions_alone_are_told_from_an_export() -> None:
    path = written([{"data": {"image": "crack/001.png"}, "predictions": [{"result": []}]}])
    with pytest.raises(DefectlocError, match="holds predictions alone; correct them in Label Studio"):
        read_annotations(path, IMAGES)


def test_the_image_of_a_task_comes_before_other_addresses() -> None:
    value = {"x": 10, "y": 20, "width": 5, "height": 50}
    result = {"type": "rectanglelabels", "original_width": 200, "original_height": 100, "value": value}
    data = {"url": "https://host.invalid/x.png", "image": "part/test/crack/001.png"}
    path = written([{"data": data, "annotations": [{"result": [result]}]}])
    assert list(read_annotations(path, IMAGES)) == ["part/test/crack/001.png"]


def labelme(kind: str, points: list, **more: object) -> Path:
    folder = Path("corrected/part/test/crack")
    folder.mkdir(parents=True)
    content = {
        "shapes": [{"label": "x", "shape_type": kind, "points": points}],
        "imagePath": "..\\crack\\001.png",
        "imageHeight": 80,
        "imageWidth": 100,
    }
    (folder / "001.json").write_text(json.dumps(content | more))
    (folder / "settings.json").write_text("[1]")
    return Path("corrected")


def test_labelme() -> None:
    (found,) = read_annotations(labelme("rectangle", [[40, 20], [10, 60]]), IMAGES).items()
    assert (found[0], found[1].size) == ("part/test/crack/001.png", (80, 100))
    (region,) = found[1].regions
    assert region.is_box
    assert region.corners.tolist() == [[10, 20], [40, 60]]


def test_an_outline_of_labelme() -> None:
    (found,) = read_annotations(labelme("polygon", [[40, 20], [10, 60], [10, 20]]), IMAGES).values()
    assert not found.regions[0].is_box
    assert len(found.regions[0].corners) == 3


def yolo(line: str) -> Path:
    folder = Path("yolo")
    for name in ("images", "labels"):
        (folder / name / "crack").mkdir(parents=True)
    (folder / "data.yaml").write_text("names: {0: defect}")
    Image.new("RGB", (100, 80)).save(folder / "images" / "crack" / "001.png")
    (folder / "labels" / "crack" / "001.txt").write_text(f"{line}\n\n")
    return folder


def test_yolo() -> None:
    (found,) = read_annotations(yolo("3 0.25 0.5 0.3 0.5"), IMAGES).items()
    assert (found[0], found[1].size) == ("part/test/crack/001.png", (80, 100))
    assert found[1].regions[0].is_box
    np.testing.assert_allclose(found[1].regions[0].corners, [[10, 20], [40, 60]])


def test_an_outline_of_yolo() -> None:
    (found,) = read_annotations(yolo("0 0.1 0.25 0.4 0.25 0.4 0.5"), IMAGES).values()
    assert not found.regions[0].is_box
    np.testing.assert_allclose(found.regions[0].corners, [[10, 20], [40, 20], [40, 40]])


def without_images() -> Path:
    (yolo("0 0.5 0.5 0.5 0.5") / "images" / "crack" / "001.png").unlink()
    return Path("yolo")


def with_labels_of_another() -> Path:
    (yolo("0 0.5 0.5 0.5 0.5") / "labels" / "crack" / "002.txt").touch()
    return Path("yolo")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (lambda: labelme("circle", [[1, 1], [5, 5]]), "'circle' in corrected/part/test/crack/001.json is not read"),
        (lambda: labelme("rectangle", [[1, 1], [5, 5]], imageHeight=None), "is no file of labelme"),
        (lambda: labelme("rectangle", [[1, 1, 1]]), "is no file of labelme"),
        (lambda: labelme("rectangle", []), "is no file of labelme"),
        (lambda: labelme("rectangle", [[1, 1], [5, 500]]), "a region lies beyond the image"),
        (lambda: labelme("rectangle", [[1, 1], [5, 5]], imagePath="9.png"), "9.png is not in the data set"),
        (lambda: yolo("0 0.5 0.5 0.5"), "a line that is no box (3 numbers after the class)"),
        (lambda: yolo("0 0.5 0.5 x 0.5"), "a line that is no box"),
        (lambda: yolo("0 0.5 0.5 1.5 0.5"), "a region lies beyond the image"),
        (without_images, "has no images in images/"),
        (with_labels_of_another, "002.txt belongs to no image"),
        (Path, "is a folder without files of labelme and without a data.yaml"),
    ],
)
def test_what_does_not_fit_in_a_folder_is_refused_by_name(path, sentence: str) -> None:
    with pytest.raises(DefectlocError) as caught:
        read_annotations(path(), IMAGES)
    assert sentence in str(caught.value)


def test_two_images_of_one_id_are_refused() -> None:
    """In two exports that were appended all would be drawn on the images of the second."""
    content = json.loads(coco().read_text())
    content["images"].append(content["images"][0] | {"file_name": "part/test/crack/000.png"})
    sentence = "two images have one id, 7: part/test/crack/001.png and part/test/crack/000.png; give each its own"
    with pytest.raises(DefectlocError, match=sentence):
        read_annotations(written(content), IMAGES)


def test_label_studio_exports_coco_with_its_addresses_and_without_some_sizes() -> None:
    path = coco("/data/local-files/?d=photos/part/test/crack/001.png")
    content = json.loads(path.read_text())
    content["images"].append({"id": 8, "file_name": "crack/000.png", "width": None, "height": None})
    assert list(read_annotations(written(content), IMAGES)) == ["part/test/crack/001.png"]
