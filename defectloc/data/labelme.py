"""Boxes and outlines in labelme's JSON files, one for each image."""

import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectloc.data.annotated_names import ImageName
from defectloc.errors import DefectlocError

READ = ("rectangle", "polygon")
# What `annotate` writes: a record, and the images with their files below a folder.
RECORD, IMAGES = "annotate.json", "images"
# The name of an image, its size (height, width), and of each shape the corners (n, 2) x, y and whether it is a box.
Drawn = tuple[ImageName, tuple[int, int], list[tuple[NDArray[np.float64], bool]]]


def read(folder: Path) -> Iterator[Drawn]:
    """Read all files of labelme below a folder; an image's name is its path from there, or from its folder `images`.

    The second where the folder is one that `annotate` has written.

    Raises DefectlocError where there is none, and for what is damaged or drawn as anything but a box or a polygon.
    """
    files = sorted(folder.rglob("*.json"))
    found = [(path, content) for path in files if "shapes" in (content := _content(path))]
    if not found:
        raise DefectlocError(f"data.annotations={folder} is a folder without files of labelme and without a data.yaml.")
    base = folder / IMAGES if (folder / RECORD).is_file() else folder
    for path, content in found:
        try:
            name = str(content["imagePath"]).replace("\\", "/")
            file = posixpath.normpath(posixpath.join(path.parent.as_posix(), name))
            shapes = [_shape(each, path) for each in content["shapes"]]
            size = (int(content["imageHeight"]), int(content["imageWidth"])) if shapes else (0, 0)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise DefectlocError(f"data.annotations={folder}: {path} is no file of labelme ({error!r}).") from error
        yield ImageName(file.removeprefix(f"{base.as_posix()}/"), file=Path(file)), size, shapes


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DefectlocError(f"data.annotations: {path} cannot be read as JSON ({error}).") from error
    return content if isinstance(content, dict) else {}


def _shape(shape: dict[str, Any], path: Path) -> tuple[NDArray[np.float64], bool]:
    kind, points = shape["shape_type"], np.array(shape["points"], dtype=np.float64).reshape(-1, 2)
    if kind not in READ:
        raise DefectlocError(f"data.annotations: '{kind}' in {path} is not read; draw rectangles or polygons.")
    if kind == "polygon":
        return points, False
    # The corners are in the order in which they were drawn.
    return np.stack([points.min(0), points.max(0)]), True
