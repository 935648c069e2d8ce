"""Boxes to correct as folders of images with a file of boxes each: for YOLO and for labelme."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from defectloc.data import yolo
from defectloc.data.labelme import IMAGES
from defectloc.data.yolo import DATA, LABELS
from defectloc.errors import DefectlocError
from defectloc.files import make_directory
from defectloc.runs.annotating.files import LABEL, Origin
from defectloc.runs.annotating.suggestions import Suggestion

LIST = "images.txt"
# Of labelme's files; a reader of the same first number takes them.
LABELME_VERSION = "5.5.0"


def write_yolo(folder: Path, suggestions: Sequence[Suggestion], origin: Origin) -> list[str]:
    """Write `images/`, of each image a file in `labels/`, a list of the images and `data.yaml`.

    Raises DefectlocError for names that cannot stand in a list of lines, or that share a file.
    """
    names = [_yolo_name(each.path) for each in suggestions]
    _refuse_shared(names, ".txt", "YOLO")
    for each, name in zip(suggestions, names, strict=True):
        _place(origin, each.path, folder / IMAGES / name)
        (height, width), lines = each.size, []
        for (x0, y0, x1, y1), _ in each.scored_boxes:
            middle = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append(" ".join(["0", *(repr(value) for value in middle)]) + "\n")
        _write(folder / LABELS / PurePosixPath(name).with_suffix(".txt"), "".join(lines))
    _write(folder / LIST, "".join(f"./{IMAGES}/{name}\n" for name in names))
    # Without a `path` readers look beside the file, wherever it was moved to.
    content: dict[str, Any] = {"train": LIST, "val": LIST, "names": {0: LABEL}}
    _write(folder / DATA, yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return []


def _yolo_name(path: str) -> str:
    if len(path.splitlines()) != 1:
        raise DefectlocError(f"the name {path!r} has several lines and cannot be listed for YOLO; use another format.")
    return yolo.name_of(path)


def write_labelme(folder: Path, suggestions: Sequence[Suggestion], origin: Origin) -> list[str]:
    """Write `images/` and beside each image its JSON file; raises DefectlocError for images that would share one."""
    _refuse_shared([each.path for each in suggestions], ".json", "labelme")
    for each in suggestions:
        image = folder / IMAGES / each.path
        _place(origin, each.path, image)
        content: dict[str, Any] = {
            "version": LABELME_VERSION,
            "flags": {},
            "shapes": [_shape(corners, score) for corners, score in each.scored_boxes],
            "imagePath": image.name,
            "imageData": None,
            "imageHeight": each.size[0],
            "imageWidth": each.size[1],
        }
        _write(image.with_suffix(".json"), json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return []


def _shape(corners: tuple[int, int, int, int], score: float) -> dict[str, Any]:
    x0, y0, x1, y1 = corners
    return {
        "label": LABEL,
        "points": [[float(x0), float(y0)], [float(x1), float(y1)]],
        "group_id": None,
        "description": f"score {score:.3g}",
        "shape_type": "rectangle",
        "flags": {},
        "mask": None,
    }


def _refuse_shared(names: Sequence[str], suffix: str, tool: str) -> None:
    first: dict[PurePosixPath, str] = {}
    for name in names:
        file = PurePosixPath(name).with_suffix(suffix)
        if file in first:
            raise DefectlocError(
                f"the images {first[file]} and {name} would share {file.name}, as {tool} names its files; rename one, "
                "or use format=coco or labelstudio."
            )
        first[file] = name


def _place(origin: Origin, path: str, place: Path) -> None:
    """Link to an image, or copy it; raises DefectlocError where a link cannot be made."""
    make_directory(place.parent)
    image = (origin.root / path).absolute()
    if origin.copy:
        shutil.copyfile(image, place)
        return
    try:
        os.symlink(image, place)
    except OSError as error:
        raise DefectlocError(f"{place} cannot be made a link ({error.strerror}); use copy=true.") from error


def _write(path: Path, text: str) -> None:
    make_directory(path.parent)
    path.write_text(text, encoding="utf-8", newline="\n")
