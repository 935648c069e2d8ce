"""Predictions as a list of COCO results, beside the images and the category that it speaks of."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from defectloc.files import atomic

RESULTS, IMAGES = "results.coco.json", "images.coco.json"
CATEGORY = {"id": 1, "name": "defect", "supercategory": ""}
# What is said of an image beside the boxes.
OF_IMAGE = ("probability", "verdict", "unlike_training")


def write_coco(lines: Path, output: Path) -> None:
    """Write `results.coco.json` and `images.coco.json` of a file of JSON lines, one line at a time.

    The first is the list that `COCO.loadRes` of pycocotools reads once the second is loaded. Images are numbered from 1
    in the order of the lines.
    """
    with atomic(output / IMAGES) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "defectloc"}, "licenses": [], "annotations": [],\n')
        file.write(f'"categories": {json.dumps([CATEGORY])}, "images": ')
        _write_list(file, lines, lambda number, row: iter([_image(number, row)]))
        file.write("}\n")
    with atomic(output / RESULTS) as temporary, temporary.open("w", encoding="utf-8") as file:
        _write_list(file, lines, _annotations)
        file.write("\n")


def _write_list(file: TextIO, lines: Path, make: Callable[[int, Any], Iterator[dict[str, Any]]]) -> None:
    before = "["
    with lines.open(encoding="utf-8", newline="\n") as rows:
        for number, line in enumerate(rows, start=1):
            for each in make(number, json.loads(line)):
                file.write(f"{before}\n{json.dumps(each, ensure_ascii=False)}")
                before = ","
    file.write("[]" if before == "[" else "\n]")


def _image(number: int, row: Any) -> dict[str, Any]:
    known = {"id": number, "file_name": row["path"], "height": row["height"], "width": row["width"]}
    return known | {name: row[name] for name in OF_IMAGE}


def _annotations(number: int, row: Any) -> Iterator[dict[str, Any]]:
    for box in row["boxes"]:
        sides = [box["x0"], box["y0"], box["x1"] - box["x0"], box["y1"] - box["y0"]]
        yield {"image_id": number, "category_id": 1, "bbox": sides, "score": box["score"]}
