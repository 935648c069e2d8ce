"""Boxes and outlines that a person has drawn on images, as annotation tools write them.

Read are COCO data sets (`images`, `annotations` with `bbox` and, where given, polygons in `segmentation`), Label
Studio's JSON export (`rectanglelabels`, `polygonlabels`; places in percent of the image), and the folders of labelme
and of YOLO.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from defectloc.data import label_studio, labelme, yolo
from defectloc.data.annotated_names import ImageFinder, ImageName
from defectloc.data.labelme import Drawn
from defectloc.errors import DefectlocError

# Pixels by which rounding may put a corner beyond the image's edge.
SLACK = 1.0


@dataclass(frozen=True)
class Region:
    """A defect in pixels of its image: the corners `(n, 2)` x, y of a polygon, or of a box, whose two they are."""

    corners: NDArray[np.float64]
    is_box: bool


@dataclass(frozen=True)
class Annotated:
    """What is drawn on an image of `size` (height, width)."""

    size: tuple[int, int]
    regions: tuple[Region, ...]

    def cells(self, shape: tuple[int, int]) -> NDArray[np.int8]:
        """Mark the cells of a grid `shape` (h, w): 1 a defect, 0 none, -1 neither.

        A box holds its defect and more: its middle, an ellipse of half its sides, is marked, and the rest neither.
        """
        outlines, boxes = np.zeros(self.size, np.uint8), np.zeros(self.size, np.uint8)
        for region in self.regions:
            corners = np.round(region.corners).astype(np.int32)
            if region.is_box:
                (x0, y0), (x1, y1) = corners
                cv2.rectangle(boxes, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), 1, -1)
                middle, axes = ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 4, (y1 - y0) // 4)
                cv2.ellipse(outlines, [int(v) for v in middle], [int(v) for v in axes], 0, 0, 360, 1, -1)
            else:
                cv2.fillPoly(outlines, [corners], 1)
        marked = marked_cells(cell_shares(outlines > 0, shape))
        marked[(cell_shares(boxes > 0, shape) > 0) & (marked == 0)] = -1
        return marked


def marked_cells(shares: NDArray[np.floating]) -> NDArray[np.int8]:
    """Mark cells `(h, w)` by the share of each, 0 to 1, that is a defect: 1 a defect, 0 none, -1 beside one.

    A defect smaller than a cell marks the cells that hold most of it.
    """
    least = min(0.25, 0.5 * float(shares.max()))
    marked = np.where((shares > 0) & (shares >= least), 1, 0).astype(np.int8)
    around = cv2.dilate((shares > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    marked[around & (marked == 0)] = -1
    return marked


def cell_shares(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the share of each cell of a grid `shape` (h, w) that a mask `(H, W)` covers."""
    return np.asarray(cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def read_annotations(path: Path, images: list[str], root: Path | None = None) -> dict[str, Annotated]:
    """Read what a COCO or Label Studio file, or a folder of labelme or YOLO, says of a data set's `images`, by path.

    `images` are all of the data set, also those that a run leaves out: a name of one may end as another's path. A
    file's name for an image is its path, below `root` where it is absolute, or the end of one path only. Images
    without any region are left out. Raises DefectlocError, naming the first, for an image that is not there, a region
    beyond its image, and a file of another tool.
    """
    annotated: dict[str, Annotated] = {}
    drawn = list(_drawn_in_folder(path) if path.is_dir() else _drawn_in_file(path))
    renamed = {yolo.name_of(image): image for image in images} | {image: image for image in images}
    renamed = renamed if yolo.is_one(path) else {}
    path_of = ImageFinder(images, path, root, [name for name, _ in drawn], renamed)
    for name, each in drawn:
        if not each.regions:
            continue
        image = path_of(name)
        if image in annotated:
            raise DefectlocError(f"data.annotations={path} names {image} twice; keep one.")
        for region in each.regions:
            _check(region, each.size, name.written, path)
        annotated[image] = each
    if not annotated:
        raise DefectlocError(f"data.annotations={path} holds no box and no outline.")
    return annotated


def _drawn_in_file(path: Path) -> Iterator[tuple[ImageName, Annotated]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DefectlocError(f"data.annotations={path} cannot be read as JSON ({error}).") from error
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _coco(content, path)
    if isinstance(content, list) and all(isinstance(task, dict) and "data" in task for task in content):
        return _regions_of(label_studio.read(content, path))
    raise DefectlocError(f"data.annotations={path} is neither a COCO data set nor a Label Studio export.")


def _drawn_in_folder(path: Path) -> Iterator[tuple[ImageName, Annotated]]:
    return _regions_of(yolo.read(path) if yolo.is_one(path) else labelme.read(path))


def _regions_of(drawn: Iterator[Drawn]) -> Iterator[tuple[ImageName, Annotated]]:
    for name, size, shapes in drawn:
        yield name, Annotated(size, tuple(Region(corners, is_box) for corners, is_box in shapes))


def _check(region: Region, size: tuple[int, int], name: str, path: Path) -> None:
    corners, (height, width) = region.corners, size
    fits = corners.shape[1:] == (2,) and len(corners) > 1 and np.isfinite(corners).all() and corners.min() >= -SLACK
    if not fits or (corners.max(0) > np.array([width, height]) + SLACK).any():
        raise DefectlocError(
            f"data.annotations={path}: a region lies beyond the image {name} of {width} x {height} px."
        )
    if (np.ptp(corners, axis=0) <= 0).any():
        raise DefectlocError(f"data.annotations={path}: a region of the image {name} has no area.")


def _coco(content: dict[str, Any], path: Path) -> Iterator[tuple[ImageName, Annotated]]:
    try:
        images: dict[Any, dict[str, Any]] = {}
        for each in content["images"]:
            # As where two exports were appended, each of which counts from 1.
            if (other := images.setdefault(each["id"], each)) is not each:
                names = f"{other['file_name']} and {each['file_name']}"
                raise DefectlocError(
                    f"data.annotations={path}: two images have one id, {each['id']}: {names}; give each its own."
                )
        regions: dict[Any, list[Region]] = {number: [] for number in images}
        for each in content.get("annotations", []):
            if each["image_id"] not in regions:
                raise DefectlocError(f"data.annotations={path}: no image has the number {each['image_id']}.")
            regions[each["image_id"]] += _coco_regions(each, path)
        for number, image in images.items():
            name = str(image["file_name"])
            # Label Studio's COCO export has its own addresses, and no size where nothing is drawn.
            size = (int(image["height"]), int(image["width"])) if regions[number] else (0, 0)
            named = label_studio.name_at(name) if label_studio.LOCAL_FILES in name else ImageName(name)
            yield named, Annotated(size, tuple(regions[number]))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DefectlocError(f"data.annotations={path} is no COCO data set ({error!r}).") from error


def _coco_regions(annotation: dict[str, Any], path: Path) -> list[Region]:
    x, y, width, height = (float(value) for value in annotation["bbox"])
    box = Region(np.array([[x, y], [x + width, y + height]]), is_box=True)
    outlines = annotation.get("segmentation") or []
    if isinstance(outlines, dict):
        raise DefectlocError(f"data.annotations={path}: run-length masks are not read; export polygons or boxes.")
    polygons = [Region(np.array(each, dtype=np.float64).reshape(-1, 2), is_box=False) for each in outlines]
    # Our own boxes, and those of many tools, repeat their four corners as a polygon.
    if not all(_is_rectangle(each.corners) for each in polygons):
        return polygons
    # What lies between several of them is no defect, though `bbox` encloses all.
    return [_box_of(each) for each in polygons] if len(polygons) > 1 else [box]


def _box_of(rectangle: Region) -> Region:
    return Region(np.stack([rectangle.corners.min(0), rectangle.corners.max(0)]), is_box=True)


def _is_rectangle(corners: NDArray[np.float64]) -> bool:
    return len(corners) in (4, 5) and len(np.unique(corners[:, 0])) == 2 and len(np.unique(corners[:, 1])) == 2
