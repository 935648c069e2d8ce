"""Boxes around regions above a threshold: half-open integers [x0, x1) x [y0, y1) in native pixels, 8-connectivity."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.localization.maps import finite_map

CORNERS = ["x0", "y0", "x1", "y1"]
COLUMNS = [*CORNERS, "score", "score_mean"]
MODES = ("single", "components")


def label_components(mask: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Label the 8-connected components of a mask `(H, W)`.

    Labels `(H, W)` count from 1, 0 is background; boxes `(N, 4)` and areas in pixels `(N,)` are in their order.
    Raises DefectlocError for other shapes.
    """
    array = np.ascontiguousarray(np.asarray(mask) != 0).astype(np.uint8)
    if array.ndim != 2 or array.size == 0:
        raise DefectlocError(f"A mask must have the shape (height, width), not {array.shape}: pass one mask at a time.")
    _, labels, stats, _ = cv2.connectedComponentsWithStats(array, connectivity=8, ltype=cv2.CV_32S)
    x0, y0, width, height, area = stats[1:].astype(np.int64).T
    return labels.astype(np.int32, copy=False), np.stack([x0, y0, x0 + width, y0 + height], axis=1), area


def corners(boxes: pd.DataFrame | ArrayLike) -> NDArray[np.float64]:
    """Return the corners `(N, 4)` of a box table or of anything shaped so; DefectlocError for any other shape."""
    array = np.asarray(boxes[CORNERS] if isinstance(boxes, pd.DataFrame) else boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise DefectlocError(f"Boxes must have the shape (N, 4) of x0, y0, x1, y1, not {array.shape}.")
    return array


def iou(a: pd.DataFrame | ArrayLike, b: pd.DataFrame | ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union `(N, M)`, in [0, 1], of half-open boxes `(N, 4)` and `(M, 4)`.

    Areas are width x height without +1; boxes of no area overlap nothing.
    """
    first, second = corners(a)[:, None], corners(b)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = np.clip(sides, 0, None).prod(-1)
    areas = [np.clip(each[..., 2:] - each[..., :2], 0, None).prod(-1) for each in (first, second)]
    union = areas[0] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _merge(boxes: NDArray[np.int64], distance: float) -> NDArray[np.int64]:
    """Return each box's group `(N,)` once groups whose boxes lie nearer than the distance have become one."""
    group = np.arange(len(boxes))
    while True:
        _, group = np.unique(group, return_inverse=True)
        around = _around(boxes, group)
        first_near = np.empty(len(around), np.intp)
        # One row at a time: a noisy map may have tens of thousands of specks.
        for row, box in enumerate(around):
            gaps = np.maximum(around[:, :2] - box[2:], box[:2] - around[:, 2:])
            first_near[row] = (np.clip(gaps, 0, None).max(1) < distance).argmax()
        if (first_near == np.arange(len(around))).all():
            return group
        group = first_near[group]


def _around(boxes: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the box around each group `(G, 4)`."""
    n = int(group.max()) + 1
    around = np.empty((n, 4), np.int64)
    for column, (reduce, start) in enumerate(
        [(np.minimum, np.iinfo(np.int64).max)] * 2 + [(np.maximum, np.iinfo(np.int64).min)] * 2
    ):
        around[:, column] = start
        reduce.at(around[:, column], group, boxes[:, column])
    return around


def find_boxes(
    values: ArrayLike,
    threshold: float,
    mode: str = "components",
    *,
    min_area: float = 0,
    min_peak: float | None = None,
    max_boxes: int | None = None,
    merge_distance: float = 0,
) -> pd.DataFrame:
    """Return the boxes of the regions strictly above the threshold on a map `(H, W)` of native resolution.

    `components` gives a box per 8-connected region, `single` one box around all pixels above the threshold. Regions of
    fewer than `min_area` pixels are dropped first, so a speck neither makes nor widens a box; of the others those whose
    maximum is below `min_peak`, except the one with the highest maximum (hysteresis: Canny, PAMI 1986). Then boxes with
    fewer than `merge_distance` pixels between them, in x and in y, become one, until none are so near (1 joins
    overlapping and touching boxes, 0 none). The columns: `x0, y0, x1, y1` (half-open, int64), `score` (the region's
    maximum) and `score_mean` (its mean), both in the map's unit. Highest maximum first, ties by mean, then from the top
    left; at most `max_boxes`. Nothing above the threshold: no rows. Raises DefectlocError for NaN, infinities and
    values out of range.
    """
    if mode not in MODES:
        raise DefectlocError(f"localization.boxes={mode} is unknown: choose one of {', '.join(MODES)}.")
    if not np.isfinite(threshold):
        raise DefectlocError(f"localization.threshold={threshold} is not a finite number: give one.")
    if min_peak is not None and not np.isfinite(min_peak):
        raise DefectlocError(f"localization.min_peak={min_peak} is not a finite number: give one, or null.")
    if min_area < 0 or merge_distance < 0 or (max_boxes is not None and max_boxes < 1):
        raise DefectlocError("min_area and merge_distance must be at least 0 and max_boxes at least 1 (or not given).")
    array = finite_map(values)
    # A plain float takes the map's precision, so a value equal to the threshold is not above it in float32 either.
    above = array > float(threshold)
    labels, boxes, areas = label_components(above)
    kept = areas >= min_area
    if min_peak is not None and kept.any():
        peaks = np.full(len(boxes), -np.inf)
        np.maximum.at(peaks, labels[above] - 1, array[above])
        # In the map's precision, as the threshold is.
        kept &= peaks >= min(float(array.dtype.type(min_peak)), peaks[kept].max())
    if not kept.any():
        return _frame(np.zeros((0, 4), np.int64), np.zeros(0), np.zeros(0))
    group = np.full(len(boxes), -1)
    if mode == "single":
        group[kept] = 0
    else:
        group[kept] = _merge(boxes[kept], merge_distance) if merge_distance > 0 else np.arange(int(kept.sum()))
    around = _around(boxes[kept], group[kept])
    of_pixel = group[labels[above] - 1]
    inside = array[above].astype(np.float64)[of_pixel >= 0]
    of_pixel = of_pixel[of_pixel >= 0]
    score = np.full(len(around), -np.inf)
    np.maximum.at(score, of_pixel, inside)
    mean = np.bincount(of_pixel, inside) / np.bincount(of_pixel)
    # A mean above its maximum could only be rounding.
    found = _frame(around, score, np.minimum(mean, score))
    return found.iloc[:max_boxes] if max_boxes is not None else found


def _frame(boxes: NDArray[np.int64], score: NDArray, mean: NDArray) -> pd.DataFrame:
    order = np.lexsort((boxes[:, 2], boxes[:, 3], boxes[:, 0], boxes[:, 1], -mean, -score))
    frame = pd.DataFrame(boxes[order], columns=CORNERS)
    return frame.assign(score=score[order], score_mean=mean[order])


def to_coco(
    sizes: Mapping[str, tuple[int, int]], boxes: pd.DataFrame, category: str = "defect", description: str = ""
) -> dict[str, Any]:
    """Return a COCO data set of boxes, ready for `json.dump` and valid for `pycocotools`.

    `sizes` maps each image's path to (height, width), images without boxes included; `boxes` has the columns
    `path, x0, y0, x1, y1` and, for predictions, `score`. Images are numbered from 1 in the order of their paths,
    annotations from 1. The `annotations` of predictions are at the same time a valid COCO result list. Raises
    DefectlocError for a box whose image has no size.
    """
    ids = {path: number for number, path in enumerate(sorted(sizes), start=1)}
    unknown = [path for path in boxes["path"] if path not in ids] if len(boxes) else []
    if unknown:
        raise DefectlocError(f"A box belongs to {unknown[0]}, whose size is not given: add the image or drop the box.")
    annotations: list[dict[str, Any]] = []
    table = boxes.assign(_image=[ids[path] for path in boxes["path"]]) if len(boxes) else boxes
    for row in (table.sort_values("_image", kind="stable") if len(boxes) else table).to_dict("records"):
        x0, y0, x1, y1 = (int(row[name]) for name in CORNERS)
        annotation = {
            "id": len(annotations) + 1,
            "image_id": int(row["_image"]),
            "category_id": 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
            "iscrowd": 0,
        }
        if "score" in row:
            annotation["score"] = float(row["score"])
        annotations.append(annotation)
    return {
        "info": {"description": description},
        "licenses": [],
        "images": [
            {"id": ids[path], "file_name": path, "height": int(sizes[path][0]), "width": int(sizes[path][1])}
            for path in sorted(sizes)
        ],
        "categories": [{"id": 1, "name": category, "supercategory": ""}],
        "annotations": annotations,
    }
