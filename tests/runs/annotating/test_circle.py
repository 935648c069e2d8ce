"""Fitted, annotated, corrected, read back and fitted again; and what the tools' own readers say."""

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from defectloc.data.annotations import Annotated, read_annotations
from defectloc.runs.directory import Run
from tests.conftest import FUSION
from tests.runs.annotating import corrections

FORMATS = ("labelstudio", "coco", "labelme", "yolo")


def corrected(kind: str) -> Path:
    output = Path("outputs/pill/annotations") / kind
    if kind == "labelstudio":
        return corrections.label_studio(output, Path("export.json"))
    if kind == "coco":
        return corrections.coco(output, Path("instances_default.json"))
    return corrections.labelme(output) if kind == "labelme" else corrections.yolo(output)


def of_fold_1() -> Run:
    return Run.open(next(Path("outputs").glob("pill/fold1-*")))


@pytest.fixture
def boxes(fused: Path, command) -> pd.DataFrame:
    """The boxes of the fold that is there, of images labelled defective, by thresholds that give each image some."""
    options = ["localization.threshold_from=good_quantile", "localization.quantile=0.9"]
    outcome = command("train", *FUSION, *options, "decision.threshold_from=fixed", "decision.threshold=0.001")
    assert outcome.code == 0, outcome.err
    catalog, run = pd.read_csv(fused / "catalog.csv"), Run.open(fused)
    found = pd.read_csv(run.last_localization() / "boxes.csv").merge(catalog, on="path")
    assert len(found[found["label"] == 1]) > 1
    return found[found["label"] == 1]


@pytest.fixture
def annotate(command):
    def start(kind: str) -> Path:
        outcome = command("annotate", "subset=pill", f"format={kind}")
        assert outcome.code == 0, outcome.err
        return Path("outputs/pill/annotations") / kind

    return start


def test_corrected_boxes_teach_the_other_folds(command, boxes, annotate):
    annotate("labelstudio")
    file = corrected("labelstudio")
    outcome = command("train", *FUSION, "fold=1", f"data.annotations={file}")
    assert outcome.code == 0, outcome.err
    assert "supervision" in of_fold_1().product("fusion").made_from


def test_the_corrections_of_all_tools_are_read_alike(boxes, annotate, fused):
    images = list(pd.read_csv(fused / "catalog.csv")["path"])
    found: dict[str, dict[str, Annotated]] = {}
    for kind in FORMATS:
        annotate(kind)
        found[kind] = read_annotations(corrected(kind), images)
        assert set(boxes["path"]) <= set(found[kind])
    for kind in FORMATS[1:]:
        assert set(found[kind]) == set(found["coco"])
        for path, each in found[kind].items():
            expected = found["coco"][path]
            assert each.size == expected.size == (64, 64)
            for region, wanted in zip(each.regions, expected.regions, strict=True):
                assert region.is_box == wanted.is_box
                np.testing.assert_allclose(region.corners, wanted.corners, atol=1e-3)
    assert sum(not region.is_box for each in found["yolo"].values() for region in each.regions) == 1
    moved = found["coco"][boxes["path"].iloc[-1]].regions[-1].corners
    assert moved.tolist()[0] == [boxes["x0"].iloc[-1] + corrections.DX, boxes["y0"].iloc[-1] + corrections.DY]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_the_whole_circle(command, boxes, annotate, kind):
    annotate(kind)
    outcome = command("train", *FUSION, "fold=1", f"data.annotations={corrected(kind)}")
    assert outcome.code == 0, outcome.err
    supervised = of_fold_1().maps("fusion").cells
    assert command("train", *FUSION, "fold=1").code == 0
    plain = of_fold_1().maps("fusion").cells
    assert any(not np.array_equal(supervised[path], plain[path]) for path in plain)


def optional(name: str):
    """A package of a tool; what lacks one of its own dependencies counts as not installed."""
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


@pytest.mark.slow
def test_label_studio_takes_the_tasks(boxes, annotate):
    interface = optional("label_studio_sdk.label_interface").LabelInterface
    output = annotate("labelstudio")
    labeling = interface((output / "labeling_config.xml").read_text(encoding="utf-8"))
    for task in json.loads((output / "tasks.json").read_text(encoding="utf-8")):
        assert labeling.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert labeling.validate_prediction(prediction, return_errors=True) == []
    task["predictions"][0]["result"] = [{"type": "rectanglelabels", "from_name": "nothing", "to_name": "image"}]
    assert labeling.validate_prediction(task["predictions"][0], return_errors=True)


@pytest.mark.slow
def test_label_studio_converts_the_corrected_tasks(boxes, annotate, fused):
    converter = optional("label_studio_sdk.converter")
    output = annotate("labelstudio")
    labeling = (output / "labeling_config.xml").read_text(encoding="utf-8")
    file = corrected("labelstudio")
    converter.Converter(labeling, project_dir=None, download_resources=False).convert_to_coco(
        str(file), "converted", output_image_dir="converted/images", is_dir=False
    )
    content = json.loads(Path("converted/result.json").read_text(encoding="utf-8"))
    images = list(pd.read_csv(fused / "catalog.csv")["path"])
    ours = read_annotations(file, images)
    assert len(content["annotations"]) == sum(len(each.regions) for each in ours.values())
    theirs = read_annotations(Path("converted/result.json"), images)
    assert set(theirs) == set(ours)
    for path, each in theirs.items():
        for region, wanted in zip(each.regions, ours[path].regions, strict=True):
            assert region.is_box == wanted.is_box
            np.testing.assert_allclose(region.corners, wanted.corners, atol=0.5)


@pytest.mark.slow
def test_labelme_opens_its_files(boxes, annotate):
    label_file = optional("labelme").LabelFile
    output = annotate("labelme")
    n_shapes = 0
    for path in sorted((output / "images").rglob("*.json")):
        opened = label_file(str(path))
        assert opened.imageData
        n_shapes += len(opened.shapes)
    assert n_shapes >= len(boxes)


@pytest.mark.slow
def test_ultralytics_loads_the_folder(boxes, annotate, monkeypatch, tmp_path):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    optional("ultralytics")
    utils = importlib.import_module("ultralytics.data.utils")
    dataset = importlib.import_module("ultralytics.data.dataset").YOLODataset
    output = annotate("yolo")
    data = utils.check_det_dataset(str(output / "data.yaml"), autodownload=False)
    assert data["names"] == {0: "defect"}
    loaded = dataset(img_path=data["train"], data=data, task="detect", augment=False, imgsz=64)
    assert len(loaded) == len(list((output / "labels").rglob("*.txt")))
    sizes = [tuple(label["shape"]) for label in loaded.labels]
    assert set(sizes) == {(64, 64)}
    assert sum(len(label["bboxes"]) for label in loaded.labels) >= len(boxes)
    of_last = next(each for each in loaded.labels if each["im_file"].endswith(boxes["path"].iloc[-1]))
    x0, y0, x1, y1 = boxes[["x0", "y0", "x1", "y1"]].iloc[-1]
    expected = np.array([x0 + x1, y0 + y1, 2 * (x1 - x0), 2 * (y1 - y0)]) / 128
    assert np.abs(of_last["bboxes"] - expected).max(1).min() < 1e-6
