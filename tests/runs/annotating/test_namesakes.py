"""Images of one name in folders whose names are those of the data set's own folder, and of the tools'."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from defectloc.data.annotations import read_annotations
from defectloc.data.labelme import RECORD
from defectloc.errors import DefectlocError
from defectloc.localization.boxes import COLUMNS
from defectloc.runs.annotating.files import DATA_SET, TASKS, Origin, write_coco, write_label_studio
from defectloc.runs.annotating.image_folders import write_labelme, write_yolo
from defectloc.runs.annotating.suggestions import Suggestion
from tests.conftest import write_image

IMAGES = ["1.png", "bad/1.png", "bad/bad/1.png", "images/1.png", "images/bad/1.png", "labelme/images/1.png"]


@pytest.fixture
def root(tmp_path) -> Path:
    """A data set in a folder `bad`."""
    for path in IMAGES:
        write_image(tmp_path / "bad" / path)
    return tmp_path / "bad"


def suggestions(paths: list[str]) -> list[Suggestion]:
    """Give each image a box that begins at its number."""
    boxes = [pd.DataFrame([(IMAGES.index(path), 2, 30, 20, 7.0, 6.0)], columns=COLUMNS) for path in paths]
    return [
        Suggestion(path, (40, 40), 0, 1, "crack", 1.0, 0.75, "defective", box)
        for path, box in zip(paths, boxes, strict=True)
    ]


def lefts(annotations: Path, root: Path | None) -> dict[str, int]:
    """Read at which pixel the box of each image begins."""
    found = read_annotations(annotations, IMAGES, root)
    return {path: round(each.regions[0].corners.min(0)[0]) for path, each in found.items()}


def expected(paths: list[str]) -> dict[str, int]:
    return {path: IMAGES.index(path) for path in paths}


@pytest.mark.parametrize("paths", [IMAGES, *([path] for path in IMAGES)])
@pytest.mark.parametrize("copy", [True, False])
def test_of_yolo_and_labelme(root, tmp_path, paths, copy):
    origin = Origin(root, "x", copy=copy)
    write_yolo(tmp_path / "yolo", suggestions(paths), origin)
    write_labelme(tmp_path / "labelme", suggestions(paths), origin)
    (tmp_path / "labelme" / RECORD).write_text("{}")
    for known in (root, None):
        for folder in ("yolo", "labelme", "labelme/images"):
            assert lefts(tmp_path / folder, known) == expected(paths)


def test_of_labelme_beside_the_images_of_a_folder_of_the_data_set(root, tmp_path):
    write_labelme(tmp_path / "out", suggestions(["bad/1.png"]), Origin(root, "x"))
    (tmp_path / "out/images/bad/1.json").rename(root / "bad/1.json")
    assert lefts(root / "bad", root) == expected(["bad/1.png"])


def exported_as_coco(output: Path, folder: Path) -> Path:
    """Write what Label Studio exports as COCO: its addresses, and no size where nothing is drawn."""
    images, annotations = [], []
    for number, task in enumerate(json.loads((output / TASKS).read_text())):
        drawn = task["predictions"][0]["result"]
        size = {"width": 40, "height": 40} if drawn else {"width": None, "height": None}
        images.append({"id": number, "file_name": task["data"]["image"], **size})
        for region in drawn:
            bbox = [region["value"][side] * 0.4 for side in ("x", "y", "width", "height")]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 0, "bbox": bbox})
    path = folder / "result.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


@pytest.mark.parametrize("served", [".", ".."])
@pytest.mark.parametrize("drawn", [IMAGES, *([path] for path in IMAGES)])
def test_of_label_studio(root, tmp_path, served, drawn):
    """All tasks are exported; a person has left boxes on some."""
    some = [each if each.path in drawn else without(each) for each in suggestions(IMAGES)]
    write_label_studio(tmp_path, some, Origin(root, "x", document_root=(root / served).resolve()))
    assert lefts(exported_as_coco(tmp_path, tmp_path), root) == expected(drawn)


def without(each: Suggestion) -> Suggestion:
    return Suggestion(each.path, each.size, 0, 0, "good", -1.0, 0.25, "good", each.boxes.head(0))


def test_a_name_of_label_studio_that_may_be_two_images_is_refused(root, tmp_path):
    """A part of the tasks, of which the folder that was served cannot be told."""
    write_label_studio(tmp_path, suggestions(["bad/1.png"]), Origin(root, "x"))
    sentence = "the image bad/1.png may be 1.png or bad/1.png, by the folder that Label Studio serves"
    with pytest.raises(DefectlocError, match=re.escape(sentence)):
        lefts(exported_as_coco(tmp_path, tmp_path), root)


@pytest.mark.parametrize("paths", [IMAGES, *([path] for path in IMAGES)])
def test_of_coco(root, tmp_path, paths):
    write_coco(tmp_path, suggestions(paths), Origin(root, "x"))
    assert lefts(tmp_path / DATA_SET, root) == expected(paths)
