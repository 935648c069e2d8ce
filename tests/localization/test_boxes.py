import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage

from defectloc.errors import DefectlocError
from defectloc.localization.boxes import COLUMNS, CORNERS, find_boxes, iou, label_components, to_coco
from defectloc.localization.maps import Grid, upsample

MAP = np.array(
    [
        [0.9, 0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0, 0.8],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.7, 0.8, 0.0, 0.0, 0.95],
    ]
)
masks = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def rows(frame: pd.DataFrame) -> list[list[int]]:
    return frame[CORNERS].to_numpy().tolist()


def test_components_joins_diagonal_neighbours_and_sorts_by_score() -> None:
    found = find_boxes(MAP, 0.75)
    assert list(found.columns) == COLUMNS
    assert rows(found) == [[0, 0, 2, 2], [4, 3, 5, 4], [4, 1, 5, 2], [1, 3, 2, 4]]
    assert found["score"].tolist() == [1.0, 0.95, 0.8, 0.8]
    assert found["score_mean"].tolist() == pytest.approx([0.95, 0.95, 0.8, 0.8])


def test_a_value_equal_to_the_threshold_is_not_above_it() -> None:
    assert rows(find_boxes(MAP, 0.8)) == [[0, 0, 2, 2], [4, 3, 5, 4]]
    assert rows(find_boxes(MAP.astype(np.float32), 0.8)) == [[0, 0, 2, 2], [4, 3, 5, 4]]
    assert rows(find_boxes(MAP.astype(np.float32), np.float64(0.8))) == [[0, 0, 2, 2], [4, 3, 5, 4]]


def test_single_gives_one_box_around_everything_row_and_column_zero_included() -> None:
    found = find_boxes(MAP, 0.75, "single")
    assert rows(found) == [[0, 0, 5, 4]]
    assert found["score"].tolist() == [1.0]
    assert found["score_mean"].tolist() == pytest.approx([np.mean([0.9, 1, 0.8, 0.8, 0.95])])


@pytest.mark.parametrize("mode", ["single", "components"])
def test_nothing_above_the_threshold_gives_no_rows_of_the_same_types(mode: str) -> None:
    found = find_boxes(np.zeros((4, 5)), 0, mode)
    assert len(found) == 0
    assert found.dtypes.equals(find_boxes(MAP, 0.5, mode).dtypes)


@pytest.mark.parametrize("mode", ["single", "components"])
def test_everything_above_the_threshold_gives_the_whole_image(mode: str) -> None:
    assert rows(find_boxes(np.ones((4, 5)), 0, mode)) == [[0, 0, 5, 4]]


@pytest.mark.parametrize(("y", "x"), [(0, 2), (3, 2), (2, 0), (2, 4)])
def test_one_pixel_at_each_border(y: int, x: int) -> None:
    values = np.zeros((4, 5))
    values[y, x] = 1
    assert rows(find_boxes(values, 0.5)) == [[x, y, x + 1, y + 1]]


def test_min_area_drops_specks_before_anything_is_joined() -> None:
    assert rows(find_boxes(MAP, 0.75, min_area=2)) == [[0, 0, 2, 2]]
    assert rows(find_boxes(MAP, 0.75, "single", min_area=2)) == [[0, 0, 2, 2]]
    assert rows(find_boxes(MAP, 0.75, min_area=3)) == []


def test_regions_must_reach_min_peak_except_the_highest() -> None:
    found = find_boxes(MAP, 0.75)
    for peak in (0.76, float(found["score"].median()), found["score"].max(), 9.0):
        reached = [row[:4] for row, score in zip(rows(found), found["score"], strict=True) if score >= peak]
        assert rows(find_boxes(MAP, 0.75, min_peak=peak)) == (reached or rows(found)[:1])
    single = np.array([[0.7, 0, 0, 1]], np.float32)
    assert len(find_boxes(single, 0.5, min_peak=0.7)) == 2
    assert rows(find_boxes(single, 0.5, "single", min_peak=0.8)) == [[3, 0, 4, 1]]
    # What is dropped for its size is not the highest.
    assert rows(find_boxes(MAP, 0.75, min_area=2, min_peak=9.0)) == [[0, 0, 2, 2]]
    assert rows(find_boxes(np.zeros((3, 3)), 0.75, min_peak=2.0)) == []


def test_max_boxes_keeps_the_highest() -> None:
    assert rows(find_boxes(MAP, 0.75, max_boxes=2)) == [[0, 0, 2, 2], [4, 3, 5, 4]]


def test_merge_distance_joins_boxes_with_fewer_pixels_between_them() -> None:
    # One row lies between the boxes at the right; two columns between those and the left ones.
    assert rows(find_boxes(MAP, 0.75, merge_distance=1)) == rows(find_boxes(MAP, 0.75))
    merged = find_boxes(MAP, 0.75, merge_distance=2)
    assert rows(merged) == [[0, 0, 2, 4], [4, 1, 5, 4]]
    assert merged["score_mean"].tolist() == pytest.approx([0.9, 0.875])
    assert rows(find_boxes(MAP, 0.75, merge_distance=3)) == [[0, 0, 5, 4]]


def test_merging_goes_on_until_no_box_is_near_another() -> None:
    values = np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    # The row at the bottom joins the corner at the top left, and only their common box is near the pixel at the right.
    assert rows(find_boxes(values, 0.5, merge_distance=3)) == [[0, 0, 5, 4]]
    values[3, 1:3] = 0
    assert rows(find_boxes(values, 0.5, merge_distance=3)) == [[0, 0, 1, 4], [4, 1, 5, 2]]


@pytest.mark.parametrize(
    "bad",
    [
        {"values": [[np.nan, 0.0]]},
        {"values": [[np.inf, 0.0]]},
        {"values": [0.0]},
        {"threshold": np.nan},
        {"mode": "many"},
        {"min_area": -1},
        {"min_peak": np.nan},
        {"max_boxes": 0},
        {"merge_distance": -1},
    ],
)
def test_bad_requests_are_refused(bad: dict) -> None:
    with pytest.raises(DefectlocError):
        find_boxes(**{"values": MAP, "threshold": 0.5, **bad})


@settings(deadline=None, max_examples=60)
@given(masks)
def test_boxes_of_a_mask_are_tight_and_agree_with_scipy(mask: np.ndarray) -> None:
    labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
    expected = sorted([y.start, x.start, y.stop, x.stop] for y, x in ndimage.find_objects(labels))
    _, boxes, areas = label_components(mask)
    assert sorted([y0, x0, y1, x1] for x0, y0, x1, y1 in boxes.tolist()) == expected
    assert len(boxes) == n
    covered = np.zeros_like(mask)
    for x0, y0, x1, y1 in boxes:
        covered[y0:y1, x0:x1] = True
        inside = mask[y0:y1, x0:x1]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
    assert covered[mask].all()
    assert sorted(areas) == sorted(np.bincount(labels.ravel())[1:])
    assert sorted(map(tuple, rows(find_boxes(mask, 0.5)))) == sorted(map(tuple, boxes.tolist()))


@settings(deadline=None, max_examples=40)
@given(arrays(np.float64, (6, 7), elements=st.floats(0, 1)), st.floats(0, 1), st.floats(0, 1))
def test_raising_the_threshold_never_grows_a_region(values: np.ndarray, one: float, other: float) -> None:
    low, high = sorted((one, other))
    wide, narrow = find_boxes(values, low)[CORNERS].to_numpy(), find_boxes(values, high)[CORNERS].to_numpy()
    for box in narrow:
        assert ((wide[:, :2] <= box[:2]).all(1) & (wide[:, 2:] >= box[2:]).all(1)).any()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(2, 4))
def test_boxes_at_another_native_size_differ_by_at_most_one_pixel(row: int, column: int, factor: int) -> None:
    grid_map = np.zeros((7, 7))
    grid_map[row : row + 2, column] = 1
    small = find_boxes(upsample(grid_map, (224, 224), 224, Grid(32, 15.5)), 0.5)[CORNERS].to_numpy()
    large = find_boxes(upsample(grid_map, (224 * factor,) * 2, 224, Grid(32, 15.5)), 0.5)[CORNERS].to_numpy()
    assert small.shape == large.shape == (1, 4)
    assert np.abs(large / factor - small).max() <= 1


def test_iou_is_half_open() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]])
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]])
    np.testing.assert_allclose(iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]])
    assert iou(find_boxes(np.zeros((4, 5)), 0.5), b).shape == (0, 3)
    with pytest.raises(DefectlocError, match="shape"):
        iou(np.zeros((2, 5)), b)


def test_iou_agrees_with_pycocotools() -> None:
    rng = np.random.default_rng(0)
    a, b = (
        np.concatenate([low, low + rng.integers(1, 20, (n, 2))], 1)
        for n in (7, 9)
        for low in [rng.integers(0, 20, (n, 2))]
    )
    as_coco = [np.concatenate([x[:, :2], x[:, 2:] - x[:, :2]], 1).astype(np.float64) for x in (a, b)]
    np.testing.assert_allclose(iou(a, b), coco_mask.iou(*as_coco, [0] * len(b)))


def test_coco_is_read_by_pycocotools_as_truth_and_as_result(tmp_path: Path) -> None:
    sizes = {"b é/2.png": (4, 5), "a/1.png": (4, 5), "good.png": (4, 5)}
    table = pd.concat([find_boxes(MAP, 0.75).assign(path=path) for path in ("b é/2.png", "a/1.png")])
    coco = to_coco(sizes, table)
    (tmp_path / "boxes.json").write_text(json.dumps(coco), encoding="utf-8")
    truth = COCO(str(tmp_path / "boxes.json"))
    assert [image["file_name"] for image in truth.dataset["images"]] == ["a/1.png", "b é/2.png", "good.png"]
    assert len(truth.getAnnIds(imgIds=[1])) == 4
    assert truth.getAnnIds(imgIds=[3]) == []
    assert truth.annToMask(truth.loadAnns([1])[0])[:2, :2].all()
    scores = COCOeval(truth, truth.loadRes(coco["annotations"]), "bbox")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[0] == pytest.approx(1)


def test_coco_without_boxes_is_valid_and_a_box_without_an_image_is_refused(tmp_path: Path) -> None:
    empty = find_boxes(np.zeros((4, 5)), 0.5).assign(path=[])
    (tmp_path / "boxes.json").write_text(json.dumps(to_coco({"a.png": (4, 5)}, empty)))
    assert COCO(str(tmp_path / "boxes.json")).getAnnIds() == []
    with pytest.raises(DefectlocError, match=r"b\.png"):
        to_coco({"a.png": (4, 5)}, find_boxes(MAP, 0.5).assign(path="b.png"))
