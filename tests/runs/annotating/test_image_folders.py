"""Names that YOLO and labelme would read otherwise than they are meant."""

from pathlib import Path

import pandas as pd
import pytest

from defectloc.data import yolo
from defectloc.errors import DefectlocError
from defectloc.localization.boxes import COLUMNS
from defectloc.runs.annotating.files import Origin
from defectloc.runs.annotating.image_folders import write_labelme, write_yolo
from defectloc.runs.annotating.suggestions import Suggestion
from tests.conftest import files_below, write_image

BOX = pd.DataFrame([(1, 2, 31, 22, 7.0, 6.0)], columns=COLUMNS)


def suggested(root: Path, *paths: str) -> list[Suggestion]:
    for path in paths:
        write_image(root / path)
    return [Suggestion(path, (40, 40), 0, 1, "crack", 1.0, 0.75, "defective", BOX) for path in paths]


@pytest.mark.parametrize(("write", "suffix"), [(write_yolo, "txt"), (write_labelme, "json")])
def test_images_that_would_share_a_file_are_refused(tmp_path, write, suffix):
    suggestions = suggested(tmp_path / "data", "a/1.png", "b/1.jpg", "a/1.jpg")
    with pytest.raises(DefectlocError, match=rf"a/1.png and a/1.jpg would share 1.{suffix}"):
        write(tmp_path / "out", suggestions, Origin(tmp_path / "data", "x"))


@pytest.mark.parametrize("name", ["a\n1.png", "a\u20281.png", "a\r1.png"])
def test_names_of_several_lines_are_refused_for_yolo(tmp_path, name):
    with pytest.raises(DefectlocError, match="has several lines"):
        write_yolo(tmp_path / "out", suggested(tmp_path / "data", name), Origin(tmp_path / "data", "x"))
    write_labelme(tmp_path / "out", suggested(tmp_path / "data", name), Origin(tmp_path / "data", "x"))


def test_folders_that_yolo_takes_for_its_own(tmp_path):
    paths = ["part no./images/1.png", "images/2.png"]
    write_yolo(tmp_path / "out", suggested(tmp_path / "data", *paths), Origin(tmp_path / "data", "x"))
    listed = (tmp_path / "out" / "images.txt").read_text().splitlines()
    assert listed == ["./images/part no._/images_/1.png", "./images/images_/2.png"]
    # As a reader finds the labels: by the last folder of that name.
    for line in listed:
        labels = "/labels/".join(str(tmp_path / "out" / line).rsplit("/images/", 1)).replace(".png", ".txt")
        assert Path(labels).read_text() == "0 0.4 0.3 0.75 0.5\n"
    found = {name.written: shapes for name, _, shapes in yolo.read(tmp_path / "out")}
    assert set(found) == {"part no._/images_/1.png", "images_/2.png"}
    assert all(shapes[0][0].round(9).tolist() == [[1, 2], [31, 22]] for shapes in found.values())


def test_no_link_can_be_made(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.symlink", refuse)
    suggestions = suggested(tmp_path / "data", "1.png")
    with pytest.raises(DefectlocError, match="use copy=true"):
        write_yolo(tmp_path / "out", suggestions, Origin(tmp_path / "data", "x"))
    write_yolo(tmp_path / "copied", suggestions, Origin(tmp_path / "data", "x", copy=True))
    assert files_below(tmp_path / "copied") == ["data.yaml", "images.txt", "images/1.png", "labels/1.txt"]
