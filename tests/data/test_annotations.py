import json
from pathlib import Path

import numpy as np
import pytest

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
        (
            lambda: label_studio("crack/001.png", "brushlabels", {"rle": []}),
            "'brushlabels' of crack/001.png is not read",
        ),
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
