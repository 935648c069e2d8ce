"""Boxes to correct: each image's by the fold that tested it, in the files of the tools."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pandas as pd
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from defectloc.data.annotations import read_annotations
from defectloc.files import digest, sealed
from tests.conftest import files_below
from tests.runs.annotating.folds import BAD, GOOD, LONG, PATHS, QUOTES, box_of, localize, write_folds

FORMATS = ("coco", "labelstudio", "yolo", "labelme")
CORNERS = ["x0", "y0", "x1", "y1"]


@pytest.fixture
def folds(tmp_path):
    return write_folds(tmp_path)


@pytest.fixture
def annotate(command):
    def start(*arguments: str) -> Path:
        outcome = command("annotate", "subset=part", *arguments)
        assert outcome.code == 0, outcome.err
        kind = next((a.partition("=")[2] for a in arguments if a.startswith("format=")), "coco")
        given = [a.partition("=")[2] for a in arguments if a.startswith("output=")]
        return Path(given[0]) if given else Path("outputs/part/annotations") / kind

    return start


def corners(boxes: pd.DataFrame) -> list[tuple]:
    return [tuple(row) for row in boxes[CORNERS].to_numpy().tolist()]


def test_coco_is_read_by_pycocotools(folds, annotate):
    output = annotate("format=coco")
    truth = COCO(str(output / "images.coco.json"))
    found = truth.loadRes(str(output / "results.coco.json"))
    whole = COCO(str(output / "annotations.coco.json"))
    for coco in (found, whole):
        assert [image["file_name"] for image in coco.dataset["images"]] == PATHS
        for number, path in enumerate(PATHS, start=1):
            boxes = [each["bbox"] for each in coco.loadAnns(coco.getAnnIds([number]))]
            expected = box_of(path) if path in BAD else []
            assert boxes == [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in expected]
    assert max(each["score"] for each in found.dataset["annotations"]) == 90.0
    assert [whole.loadCats([1])[0]["name"], len(whole.getCatIds())] == ["defect", 1]
    assert all(0 <= image["probability"] <= 1 for image in whole.dataset["images"])


def test_label_studio(folds, annotate):
    output = annotate("format=labelstudio")
    tasks = json.loads((output / "tasks.json").read_text(encoding="utf-8"))
    named = [parse_qs(urlparse(task["data"]["image"]).query)["d"] for task in tasks]
    assert named == [[path] for path in PATHS]
    assert all(task["data"]["image"].startswith("/data/local-files/?d=") for task in tasks)
    root = ET.fromstring((output / "labeling_config.xml").read_text(encoding="utf-8"))
    boxes, image = root.find("RectangleLabels"), root.find("Image")
    assert [label.get("value") for label in boxes] == ["defect"]
    assert (boxes.get("toName"), image.get("value")) == (image.get("name"), "$image")
    for task, path in zip(tasks, PATHS, strict=True):
        (prediction,) = task["predictions"]
        assert 0 <= prediction["score"] <= 1
        assert "abc" in prediction["model_version"]
        expected = box_of(path) if path in BAD else []
        assert len(prediction["result"]) == len(expected)
        for region, (x0, y0, x1, y1) in zip(prediction["result"], expected, strict=True):
            assert (region["from_name"], region["to_name"]) == (boxes.get("name"), image.get("name"))
            assert (region["type"], region["original_width"], region["original_height"]) == ("rectanglelabels", 10, 10)
            value = region["value"]
            assert [value[key] for key in ("x", "y", "width", "height")] == [10 * x0, 10 * y0, 20, 20]
            assert value["rectanglelabels"] == ["defect"]
            assert x1 - x0 == y1 - y0 == 2


def test_label_studio_serves_a_folder_above(folds, annotate, command, tmp_path):
    output = annotate("format=labelstudio", f"document_root={tmp_path}")
    tasks = json.loads((output / "tasks.json").read_text(encoding="utf-8"))
    assert parse_qs(urlparse(tasks[0]["data"]["image"]).query)["d"] == [f"data/{PATHS[0]}"]
    sentence = command("annotate", "subset=part", "format=labelstudio", "output=o", "document_root=outputs").sentence
    assert "document_root=outputs must be" in sentence
    assert not Path("o").exists()


def test_yolo(folds, annotate):
    output = annotate("format=yolo")
    data = yaml.safe_load((output / "data.yaml").read_text(encoding="utf-8"))
    assert data["names"] == {0: "defect"}
    listed = (output / data["train"]).read_text(encoding="utf-8").splitlines()
    assert listed == [f"./images/{path}" for path in PATHS]
    for path in PATHS:
        with Image.open(output / "images" / path) as image:
            assert image.size == (10, 10)
        lines = (output / "labels" / path).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
        expected = box_of(path) if path in BAD else []
        found = [tuple(map(float, line.split())) for line in lines]
        assert found == [(0, (x0 + 1) / 10, (y0 + 1) / 10, 0.2, 0.2) for x0, y0, _, _ in expected]


def test_labelme(folds, annotate):
    output = annotate("format=labelme", "copy=true")
    for path in PATHS:
        image = output / "images" / path
        assert image.is_file()
        assert not image.is_symlink()
        content = json.loads(image.with_suffix(".json").read_text(encoding="utf-8"))
        assert (image.parent / content["imagePath"]).samefile(image)
        assert (content["imageHeight"], content["imageWidth"], content["imageData"]) == (10, 10, None)
        expected = box_of(path) if path in BAD else []
        assert [shape["points"] for shape in content["shapes"]] == [[[a, b], [c, d]] for a, b, c, d in expected]


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "labelstudio"])
def test_what_is_written_is_read_back(folds, annotate, kind):
    output = annotate(f"format={kind}")
    found = read_annotations(output / "annotations.coco.json" if kind == "coco" else output, PATHS)
    assert set(found) == {path for path in BAD if box_of(path)}
    for path, each in found.items():
        (region,) = each.regions
        assert region.is_box
        assert region.corners.ravel().round(9).tolist() == list(box_of(path)[0])
        assert each.size == (10, 10)


def test_the_table_of_images(folds, annotate):
    table = pd.read_csv(annotate() / "images.csv")
    assert list(table["path"]) == PATHS
    assert list(table["fold"]) == [number % 2 for number in range(len(PATHS))]
    assert list(table["n_boxes"]) == [len(box_of(path)) if path in BAD else 0 for path in PATHS]
    for fold in folds:
        decided = pd.read_csv(next(fold.folder.glob("localization/*/predictions.csv"))).query("split == 'test'")
        both = decided.merge(table, on="path", suffixes=("", "_"))
        assert len(both) == 3
        assert (both["probability"] == both["probability_"]).all()
        assert (both["verdict"] == both["verdict_"]).all()


def test_boxes_by_verdict_are_those_of_the_runs(folds, annotate):
    found = COCO(str(annotate("boxes_by=verdict") / "annotations.coco.json"))
    names = {image["id"]: image["file_name"] for image in found.dataset["images"]}
    boxes = {(names[each["image_id"]], *each["bbox"], each["score"]) for each in found.dataset["annotations"]}
    tables = [pd.read_csv(path) for fold in folds for path in fold.folder.glob("localization/*/boxes.csv")]
    expected = {
        (row.path, row.x0, row.y0, row.x1 - row.x0, row.y1 - row.y0, row.score)
        for table in tables
        for row in table.itertuples()
    }
    assert boxes == expected
    assert any(path in GOOD for path, *_ in boxes), "a false alarm"


def test_images_that_no_fold_tested_are_named_and_left_out(tmp_path, command):
    write_folds(tmp_path, n_folds=1)
    outcome = command("annotate", "subset=part")
    assert outcome.code == 0
    assert f"3 images were tested by none of these folds, such as {PATHS[1]}" in outcome.err
    output = Path("outputs/part/annotations/coco")
    assert len(COCO(str(output / "annotations.coco.json")).dataset["images"]) == 3
    table = pd.read_csv(output / "images.csv")
    assert set(table.loc[table["fold"].isna(), "path"]) == set(PATHS[1::2])


def test_several_fits_are_a_choice(folds, tmp_path, command, annotate):
    write_folds(tmp_path, fingerprint="12e4")
    sentence = command("annotate", "subset=part").sentence
    assert "2 fits of subset=part; choose one with fingerprint=NAME: " in sentence
    assert "abc (fold 0, 1)" in sentence
    assert not Path("outputs/part/annotations").exists()
    tasks = json.loads((annotate("fingerprint=12e4", "format=labelstudio") / "tasks.json").read_text(encoding="utf-8"))
    assert "12e4" in tasks[0]["predictions"][0]["model_version"]
    assert "fingerprint=no is no fit" in command("annotate", "subset=part", "fingerprint=no").sentence


def test_a_copy_of_a_fold_is_no_other_fit(folds, command):
    copy = shutil.copytree(folds[1].folder, folds[1].folder.with_name("fold1-abc.bak"))
    outcome = command("annotate", "subset=part")
    assert outcome.code == 0, outcome.err
    assert f"{copy.name} (a copy of part/fold1-abc, or renamed)" in outcome.err


def test_several_localizations_are_a_choice(folds, command, annotate):
    before = folds[0].last_localization().name
    other = localize(folds[0], threshold=80.0, min_area=3)
    sentence = command("annotate", "subset=part").sentence
    assert f"fold0-abc: {other}, fold1-abc: {before}" in sentence
    assert "localization_name=NAME" in sentence
    output = annotate(f"localization_name={before}")
    assert before in json.loads((output / "annotations.coco.json").read_text(encoding="utf-8"))["info"]["description"]
    assert "no localization of the setting" in command("annotate", "subset=part", f"localization_name={other}").sentence
    sentence = command("annotate", "subset=part", "localization_name=cam-0").sentence
    assert f"is in none of the 2 folds; there are {', '.join(sorted([before, other]))}" in sentence


@pytest.mark.parametrize("n_masks", [(0, 4), (4, 8)])
def test_folds_with_other_numbers_of_masks_are_a_choice(tmp_path, command, annotate, n_masks):
    first, second = write_folds(tmp_path, n_masks=n_masks)
    sentence = command("annotate", "subset=part").sentence
    assert "different settings of the folds" in sentence
    name = first.last_localization().name
    assert f"fold0-abc: {name}, fold1-abc: {second.last_localization().name}" in sentence
    sentence = command("annotate", "subset=part", f"localization_name={name}").sentence
    assert f"fold1-abc has no localization of the setting {name}" in sentence


def test_folds_with_as_many_masks_are_one_setting(tmp_path, annotate):
    first, second = write_folds(tmp_path, n_masks=(4, 4))
    assert first.last_localization().name == second.last_localization().name
    annotate()


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_written_outside_the_output(folds, annotate, tmp_path, kind):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    annotate(f"format={kind}", f"output={tmp_path / 'to correct'}")
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    # The checksums of photographs are kept.
    own = (tmp_path / "to correct", tmp_path / "outputs" / ".digests")
    assert {path: time for path, time in after.items() if not set(own) & set(path.parents)} == before


@pytest.mark.parametrize("kind", FORMATS)
def test_corrected_boxes_are_not_replaced(folds, annotate, command, kind):
    output = annotate(f"format={kind}")
    first = {name: (output / name).read_bytes() for name in files_below(output)}
    annotate(f"format={kind}")
    assert {name: (output / name).read_bytes() for name in files_below(output)} == first
    names = [name for name in files_below(output) if name.endswith((".txt", ".json")) and name != "annotate.json"]
    corrected = output / names[0]
    corrected.write_text("corrected")
    sentence = command("annotate", "subset=part", f"format={kind}").sentence
    assert "boxes that were corrected there are not replaced" in sentence
    assert corrected.read_text() == "corrected"


def test_another_setting_replaces_boxes_that_nobody_changed(folds, annotate):
    output = annotate("format=labelme")
    names = files_below(output)
    annotate("format=labelme", "boxes_by=verdict")
    assert files_below(output) == names
    alarm = json.loads((output / "images/good/alarm.json").read_text(encoding="utf-8"))
    assert len(alarm["shapes"]) == 1


def contents(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in files_below(output)}


@pytest.mark.parametrize("kind", FORMATS)
def test_boxes_of_another_subset_are_not_replaced(folds, annotate, command, kind):
    output = annotate(f"format={kind}", "output=boxes")
    before = contents(output)
    shutil.copytree("outputs", "elsewhere")
    shutil.copytree("outputs/part", "outputs/other")
    for path in Path("outputs/other").glob("fold*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"subset": "other"}))
    sentence = command("annotate", "subset=other", f"format={kind}", "output=boxes").sentence
    assert "output=boxes holds boxes of subset=part, fit and localization abc " in sentence
    assert "not of subset=other, abc" in sentence
    assert contents(output) == before
    # The same fit is the same fit wherever it lies.
    annotate("outputs=elsewhere", f"format={kind}", "output=boxes")


def test_boxes_of_another_fit_that_is_asked_for_are_not_replaced(folds, tmp_path, annotate, command):
    output = annotate()
    before = contents(output)
    write_folds(tmp_path, fingerprint="12e4")
    assert "fit and localization abc" in command("annotate", "subset=part", "fingerprint=12e4").sentence
    assert contents(output) == before
    annotate("fingerprint=abc")


def test_the_same_command_replaces_its_boxes_after_another_fit(folds, tmp_path, annotate):
    output = annotate()
    for fold in folds:
        shutil.rmtree(fold.folder)
    write_folds(tmp_path, fingerprint="12e4")
    annotate()
    assert "12e4" in json.loads((output / "annotate.json").read_text())["setting"]
    for fold in write_folds(tmp_path, fingerprint="12e4"):
        localize(fold, threshold=80.0, min_area=3)
    annotate()


def test_a_folder_of_something_else_is_left_alone(folds, command, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    sentence = command("annotate", "subset=part", f"output={mine}").sentence
    assert "holds other files, such as thesis.tex" in sentence
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    # A record that names what lies outside of its folder.
    (mine / "boxes").mkdir()
    record = {"files": {"../thesis.tex": digest(mine / "thesis.tex")}}
    (mine / "boxes" / "annotate.json").write_text(json.dumps(sealed(record)))
    assert "was changed since" in command("annotate", "subset=part", f"output={mine / 'boxes'}").sentence
    assert (mine / "thesis.tex").read_text() == "x"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("subset=nothing",), "holds no finished fold of subset=nothing"),
        (("subset=../part",), "cannot name a folder"),
        (("subset=part", "root=nowhere"), "is not in nowhere"),
        (("subset=part", "copy=true"), "copy=true belongs to format=yolo"),
        (("subset=part", "format=yolo", "document_root=/"), "document_root belongs to format=labelstudio"),
        (("subset=part", "format=pascal"), "coco, labelstudio, yolo, labelme"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folds, command, arguments, sentence):
    assert sentence in command("annotate", *arguments).sentence
    assert not Path("outputs/part/annotations").exists()


@pytest.mark.parametrize("size", [(12, 10), (10, 10)])
def test_a_photograph_that_is_gone_or_was_changed(folds, command, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "data" / QUOTES)
    assert f"{QUOTES} was changed since it was scored" in command("annotate", "subset=part").sentence
    (tmp_path / "data" / QUOTES).unlink()
    assert "cannot be read" in command("annotate", "subset=part").sentence
    assert len(LONG.rpartition("/")[2]) == 200
