"""Boxes to correct as COCO files, and as tasks of Label Studio."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from defectloc import __version__
from defectloc.data.label_studio import LOCAL_FILES
from defectloc.errors import DefectlocError
from defectloc.inference.coco import IMAGES, RESULTS
from defectloc.localization.boxes import COLUMNS, to_coco
from defectloc.runs.annotating.suggestions import Suggestion

LABEL = "defect"
DATA_SET = "annotations.coco.json"
TASKS, LABELING = "tasks.json", "labeling_config.xml"
# `$path` and `$image` are filled in from each task; boxes cannot be rotated, since a rotated one is not read back.
LABELING_CONFIG = f"""<View>
  <Header value="$path"/>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  <RectangleLabels name="box" toName="image" canRotate="false">
    <Label value="{LABEL}" background="#d62728"/>
  </RectangleLabels>
  <PolygonLabels name="outline" toName="image">
    <Label value="{LABEL}" background="#ff7f0e"/>
  </PolygonLabels>
</View>
"""


@dataclass(frozen=True)
class Origin:
    """Where the images lie, what the boxes were made by, and how a tool is to find the images.

    `setting` names fit and localization; `document_root` is the folder that Label Studio serves, None the root's own;
    `copy` asks for copies of the images where a format needs them beside its files, instead of links.
    """

    root: Path
    setting: str
    document_root: Path | None = None
    copy: bool = False


def write_coco(folder: Path, suggestions: Sequence[Suggestion], origin: Origin) -> list[str]:
    """Write a data set whose annotations are the boxes, and the same as a list of results with their images beside."""
    tables = [each.boxes.assign(path=each.path) for each in suggestions if len(each.boxes)]
    boxes = pd.concat(tables) if tables else pd.DataFrame(columns=["path", *COLUMNS])
    sizes = {each.path: each.size for each in suggestions}
    content = to_coco(sizes, boxes, LABEL, f"defectloc, boxes to correct, {origin.setting}")
    by_path = {each.path: each for each in suggestions}
    for image in content["images"]:
        of_image = by_path[image["file_name"]]
        image |= {"probability": of_image.probability, "verdict": of_image.verdict, "fold": of_image.fold}
    names = ("image_id", "category_id", "bbox", "score")
    results = [{name: each[name] for name in names} for each in content["annotations"]]
    _write_json(folder / DATA_SET, content)
    _write_json(folder / IMAGES, content | {"annotations": []})
    _write_json(folder / RESULTS, results)
    return []


def write_label_studio(folder: Path, suggestions: Sequence[Suggestion], origin: Origin) -> list[str]:
    """Write a task per image with one prediction, and the labelling configuration that the tasks are made for.

    Raises DefectlocError where the images do not lie below the folder that Label Studio serves.
    """
    served = origin.document_root or origin.root
    if not origin.root.absolute().is_relative_to(served.absolute()):
        raise DefectlocError(
            f"document_root={served} must be {origin.root}, where the images lie, or a folder above it."
        )
    inner = origin.root.absolute().relative_to(served.absolute())
    _write_json(folder / TASKS, [_task(each, inner, origin.setting) for each in suggestions])
    (folder / LABELING).write_text(LABELING_CONFIG, encoding="utf-8")
    return [
        "Label Studio serves the images when started with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={served.absolute()}"
    ]


def _task(each: Suggestion, inner: Path, setting: str) -> dict[str, Any]:
    address = f"{LOCAL_FILES}{quote((inner / each.path).as_posix(), safe='/')}"
    prediction = {
        "model_version": f"defectloc {__version__} {setting}",
        "score": each.probability,
        "result": [
            _region(number, corners, score, each.size)
            for number, (corners, score) in enumerate(each.scored_boxes, start=1)
        ],
    }
    known = {"path": each.path, "label": each.label, "defect_type": each.defect_type, "fold": each.fold}
    judged = {"verdict": each.verdict, "probability": each.probability}
    return {"data": {"image": address, **known, **judged}, "predictions": [prediction]}


def _region(number: int, corners: tuple[int, int, int, int], score: float, size: tuple[int, int]) -> dict[str, Any]:
    """Give a box in percent of the image's sides."""
    (height, width), (x0, y0, x1, y1) = size, corners
    sides = {
        "x": 100 * x0 / width,
        "y": 100 * y0 / height,
        "width": 100 * (x1 - x0) / width,
        "height": 100 * (y1 - y0) / height,
    }
    return {
        "id": f"box{number}",
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**sides, "rotation": 0, "rectanglelabels": [LABEL]},
        "score": score,
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
