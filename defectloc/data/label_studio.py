"""Boxes and outlines in Label Studio's JSON export; places are in percent of the image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np
from numpy.typing import NDArray

from defectloc.data.annotated_names import ImageName
from defectloc.data.labelme import Drawn
from defectloc.errors import DefectlocError

# Kinds of region that are read, and what is said of a region or an image, which repeats the place of its region.
READ = ("rectanglelabels", "polygonlabels", "rectangle", "polygon")
SAID = ("choices", "datetime", "labels", "number", "pairwise", "ranker", "rating", "taxonomy", "textarea")
# By any of these a value has a place in the image: newer kinds of region shall not be lost without a word.
PLACES = {"imageDataURL", "points", "rle", "vertices", "x"}
# How files that it serves from a folder are addressed.
LOCAL_FILES = "/data/local-files/?d="


def read(content: list[dict[str, Any]], path: Path) -> Iterator[Drawn]:
    """Read the annotations of an export's tasks, those that were submitted; `path` is the file, for messages.

    Raises DefectlocError for tasks that hold predictions alone, for what is no export, and for regions that are not
    read.
    """
    if any(task.get("predictions") for task in content) and not any(task.get("annotations") for task in content):
        raise DefectlocError(
            f"data.annotations={path} holds predictions alone; correct them in Label Studio and give its JSON export."
        )
    return _tasks(content, path)


def _tasks(content: list[dict[str, Any]], path: Path) -> Iterator[Drawn]:
    try:
        for task in content:
            name = _image_of(task["data"], path)
            results = [
                result
                for annotation in task.get("annotations", [])
                if not annotation.get("was_cancelled")
                for result in annotation["result"]
                if _is_region(result, name.written, path)
            ]
            size = (int(results[0]["original_height"]), int(results[0]["original_width"])) if results else (0, 0)
            yield name, size, [_region(each, size, name.written, path) for each in results]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DefectlocError(f"data.annotations={path} is no Label Studio export ({error!r}).") from error


def _is_region(result: dict[str, Any], name: str, path: Path) -> bool:
    kind = result.get("type")
    if kind in READ or kind in SAID:
        return kind in READ
    if "original_width" in result or not PLACES.isdisjoint(result.get("value", ())):
        raise DefectlocError(f"data.annotations={path}: '{kind}' of {name} is not read; draw boxes or polygons.")
    return False


def _region(result: dict[str, Any], size: tuple[int, int], name: str, path: Path) -> tuple[NDArray[np.float64], bool]:
    value, scale = result["value"], np.array([size[1], size[0]]) / 100
    if value.get("rotation"):
        raise DefectlocError(f"data.annotations={path}: a box of the image {name} is rotated; draw it upright.")
    if result.get("image_rotation"):
        raise DefectlocError(
            f"data.annotations={path}: the image {name} is turned by {result['image_rotation']} degrees in Label "
            "Studio; turn it back there and draw on it as it is."
        )
    if "points" in value:
        return np.array(value["points"], dtype=np.float64) * scale, False
    x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
    return np.array([[x, y], [x + width, y + height]]) * scale, True


def _image_of(data: dict[str, Any], path: Path) -> ImageName:
    others = [value for value in data.values() if isinstance(value, str) and "/" in value]
    named = [data["image"]] if isinstance(data.get("image"), str) else others
    if not named:
        raise DefectlocError(f"data.annotations={path}: a task names no image.")
    name, written = name_at(named[0]), data.get("path")
    # Tasks of 'annotate' say which part of the address is the path in the data set.
    is_told = isinstance(written, str) and f"/{name.written}".endswith(f"/{written}")
    return ImageName(str(written)) if is_told else name


def name_at(address: str) -> ImageName:
    """Give the file of a local address, or the path of any other."""
    parts = urlparse(address)
    local = parse_qs(parts.query).get("d")
    return ImageName(local[0], is_served=True) if local else ImageName(unquote(parts.path))
