"""What a person does to boxes, as the tools write it down: left and top edges move, the first becomes an outline."""

import copy
import json
from pathlib import Path

DX, DY = 2, 1


def label_studio(output: Path, file: Path) -> Path:
    """Write the JSON export of a project with one annotation per task, as Label Studio does."""
    exported = json.loads((output / "tasks.json").read_text(encoding="utf-8"))
    outline = True
    for number, task in enumerate(exported, start=1):
        result = copy.deepcopy(task["predictions"][0]["result"])
        for region in result:
            value, width, height = region["value"], region["original_width"], region["original_height"]
            value["x"] += 100 * DX / width
            value["y"] += 100 * DY / height
            value["width"] -= 100 * DX / width
            value["height"] -= 100 * DY / height
            region["origin"] = "prediction-changed"
            if outline:
                left, top, right, bottom = (
                    value["x"],
                    value["y"],
                    value["x"] + value["width"],
                    value["y"] + value["height"],
                )
                points = [[left, top], [right, top], [right, bottom]]
                region |= {"type": "polygonlabels", "from_name": "outline"}
                region["value"] = {"points": points, "closed": True, "polygonlabels": ["defect"]}
                outline = False
        task |= {
            "id": number,
            "annotations": [
                {
                    "id": number,
                    "completed_by": 1,
                    "result": result,
                    "was_cancelled": False,
                    "ground_truth": False,
                    "lead_time": 3.5,
                    "result_count": len(result),
                }
            ],
            "drafts": [],
            "predictions": [],
            "meta": {},
            "total_annotations": 1,
            "cancelled_annotations": 0,
            "project": 1,
        }
    file.write_text(json.dumps(exported), encoding="utf-8")
    return file


def coco(output: Path, file: Path) -> Path:
    """Write a COCO data set as CVAT exports one: boxes without an outline, keys and numbers of its own."""
    content = json.loads((output / "annotations.coco.json").read_text(encoding="utf-8"))
    for number, each in enumerate(content["annotations"]):
        x, y, width, height = each["bbox"]
        x, y, width, height = x + DX, y + DY, width - DX, height - DY
        outline = [] if number else [[x, y, x + width, y, x + width, y + height]]
        each |= {
            "bbox": [float(x), float(y), width, height],
            "segmentation": outline,
            "attributes": {"occluded": False},
        }
        del each["score"]
    for image in content["images"]:
        image |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def labelme(output: Path) -> Path:
    """Change the files where they lie, as labelme does."""
    outline = True
    for path in sorted((output / "images").rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for shape in content["shapes"]:
            (x0, y0), (x1, y1) = shape["points"]
            x0, y0 = x0 + DX, y0 + DY
            shape["points"] = [[x1, y1], [x0, y0]]
            if outline:
                shape |= {"shape_type": "polygon", "points": [[x0, y0], [x1, y0], [x1, y1]]}
                outline = False
        if content["shapes"]:
            path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return output


def yolo(output: Path) -> Path:
    """Change the files where they lie, as editors of YOLO's labels do: with six decimals."""
    outline = True
    for path in sorted((output / "labels").rglob("*.txt")):
        lines = []
        for line in path.read_text(encoding="utf-8").splitlines():
            x, y, width, height = map(float, line.split()[1:])
            # Of images of 64 pixels.
            numbers = [x + DX / 128, y + DY / 128, width - DX / 64, height - DY / 64]
            if outline:
                left, top = x - width / 2 + DX / 64, y - height / 2 + DY / 64
                right, bottom = x + width / 2, y + height / 2
                numbers, outline = [left, top, right, top, right, bottom], False
            lines.append(" ".join(["0", *(f"{number:.6f}" for number in numbers)]))
        path.write_text("\n".join(lines), encoding="utf-8")
    return output
