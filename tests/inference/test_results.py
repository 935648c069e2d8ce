"""Result files that grow, are killed and resumed."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO

from defectloc.config import ResultFormat
from defectloc.data.images import OVERLAYS, PREDICTED
from defectloc.errors import DefectlocError
from defectloc.inference.overlays import overlay_name
from defectloc.inference.prediction import Prediction
from defectloc.inference.results import FORMATS, CsvResults, JsonResults, Results
from defectloc.localization.boxes import COLUMNS
from tests.conftest import files_below

IDENTITY = {"run": "abc", "images": "/photos"}
NAMES = ["a.png", 'b "q", <script>alert(1)</script>\n.png', "語.png", "d" * 200 + ".png", "e.png"]


def prediction(number: int) -> Prediction:
    """Image `number` has so many boxes; every third is unlike the training photographs."""
    boxes = pd.DataFrame([(i, 1, i + 3, 5, 0.5 + i, 0.25) for i in range(number)], columns=COLUMNS)
    return Prediction(
        probability=np.nan if number % 3 == 2 else 0.1 + 0.2,
        verdict="defective" if number else "good",
        score=-1.5,
        boxes=boxes,
        predicted=int(number > 0),
        log_odds=np.nan,
        novelty=1.5 if number % 3 == 2 else 0.5,
        cells=np.zeros((2, 2), np.float32),
        size=(20, 30),
        _native=lambda: np.zeros((20, 30), np.float32),
    )


NAMED = [(name, prediction(number)) for number, name in enumerate(NAMES)]


def written(kind: type[Results], folder, named=NAMED) -> Results:
    folder.mkdir(exist_ok=True)
    with kind(folder, IDENTITY, resume=False) as results:
        for start in range(0, len(named), 2):
            results.add(named[start : start + 2])
    return results


def painted(kind: type[Results], folder, names, overlays: bool = True, finished: bool = True) -> None:
    """Write a result anew, with a file in place of each overlay."""
    folder.mkdir(exist_ok=True)
    with kind(folder, IDENTITY | {"overlays": overlays}, resume=False) as results:
        for name in names if overlays else []:
            path = folder / OVERLAYS / overlay_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("new")
        results.add([(name, prediction(1)) for name in names])
    if finished:
        results.finish()


OWN = {
    ResultFormat.csv: ["boxes.csv", "predictions.csv"],
    ResultFormat.jsonl: ["predictions.jsonl"],
    ResultFormat.coco: ["images.coco.json", "predictions.jsonl", "results.coco.json"],
}


@pytest.mark.parametrize("before", FORMATS)
@pytest.mark.parametrize("after", FORMATS)
def test_a_new_result_replaces_all_of_the_older_one(tmp_path, before, after):
    painted(FORMATS[before], tmp_path, ["a.png", "b/1.png", "c, 'd'/2.png"])
    painted(FORMATS[after], tmp_path, ["a.png", "e.png"], finished=False)
    # Until the new one is whole.
    assert {*OWN[before], "overlays/b/1.png.png"} <= set(files_below(tmp_path))
    with FORMATS[after](tmp_path, IDENTITY | {"overlays": True}, resume=True) as results:
        pass
    results.finish()
    assert files_below(tmp_path) == sorted([*OWN[after], PREDICTED, "overlays/a.png.png", "overlays/e.png.png"])
    assert not (tmp_path / OVERLAYS / "b").exists()
    painted(FORMATS[before], tmp_path, ["a.png"], overlays=False)
    assert files_below(tmp_path) == sorted([*OWN[before], PREDICTED])


def test_an_unfinished_result_goes_with_its_overlays(tmp_path):
    painted(CsvResults, tmp_path, ["a.png"])
    painted(JsonResults, tmp_path, ["b.png"], finished=False)
    painted(CsvResults, tmp_path, ["c.png"], overlays=False, finished=False)
    assert {"predictions.csv", "overlays/a.png.png"} <= set(files_below(tmp_path))
    assert not {"predictions.partial.jsonl", "overlays/b.png.png"} & set(files_below(tmp_path))


def test_files_of_the_user_stay(tmp_path):
    mine = ["boxes.csv", "images.coco.json", "overlays/a.png", "overlays/a.png.png", "overlays/b/mine.png", "notes.txt"]
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        painted(JsonResults, tmp_path, ["a.png", "b/1.png"], overlays=False)
    painted(JsonResults, tmp_path, ["b/1.png"])
    painted(JsonResults, tmp_path, ["c.png"], overlays=False)
    assert [name for name in mine if (tmp_path / name).read_text() != "mine"] == []
    assert files_below(tmp_path) == sorted([*mine, PREDICTED, "predictions.jsonl"])


def test_a_record_that_names_other_files_removes_none(tmp_path):
    out = tmp_path / "out"
    painted(JsonResults, out, ["a.png"])
    (tmp_path / "mine.csv").write_text("path\na.png\n")
    record = json.loads((out / PREDICTED).read_text())
    names = ["../mine.csv", ["predictions.csv"], 3]
    (out / PREDICTED).write_text(json.dumps(record | {"files": names, "painted": names}))
    painted(JsonResults, out, ["b.png"])
    assert (tmp_path / "mine.csv").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_another_format_and_other_overlays_are_not_gone_on_with(tmp_path, finished):
    painted(CsvResults, tmp_path, ["a.png"], finished=finished)
    before = files_below(tmp_path)
    with pytest.raises(DefectlocError, match="holds predictions in another format; choose"):
        JsonResults(tmp_path, IDENTITY | {"overlays": True}, resume=True)
    with pytest.raises(DefectlocError, match="holds predictions with overlays; choose"):
        CsvResults(tmp_path, IDENTITY | {"overlays": False}, resume=True)
    assert files_below(tmp_path) == before


def test_images_to_review_are_counted_apart(tmp_path):
    named = [(name, replace(found, verdict="review")) if name == "e.png" else (name, found) for name, found in NAMED]
    for kind in (CsvResults, JsonResults):
        results = written(kind, tmp_path, named)
        results.finish()
        with kind(tmp_path, IDENTITY, resume=True) as again:
            pass
        again.finish()
        for each in (results, again):
            assert (each.n_predicted, each.n_review, each.n_unlike) == (2, 1, 1)


def test_csv(tmp_path):
    results = written(CsvResults, tmp_path)
    assert (results.n_images, results.n_predicted, results.n_unlike) == (5, 3, 1)
    assert not results.path.exists()
    results.finish()
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False, na_values={"probability": [""]})
    assert list(table["path"]) == NAMES
    assert list(table["n_boxes"]) == [0, 1, 2, 3, 4]
    assert list(table["unlike_training"]) == [0, 0, 1, 0, 0]
    assert table["probability"].isna().tolist() == [False, False, True, False, False]
    assert table["probability"][0] == 0.1 + 0.2
    boxes = pd.read_csv(tmp_path / "boxes.csv")
    assert list(boxes["path"]) == [name for number, name in enumerate(NAMES) for _ in range(number)]
    assert boxes.loc[0, COLUMNS].tolist() == [0, 1, 3, 5, 0.5, 0.25]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.csv", "predict.json", "predictions.csv"]


def test_json_lines(tmp_path):
    written(JsonResults, tmp_path).finish()
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["path"] for row in rows] == NAMES
    assert rows[1]["boxes"] == [{"x0": 0, "y0": 1, "x1": 3, "y1": 5, "score": 0.5, "score_mean": 0.25}]
    assert rows[2]["probability"] is None
    assert (rows[2]["unlike_training"], rows[2]["height"], rows[2]["width"]) == (1, 20, 30)


def test_coco(tmp_path):
    written(FORMATS[ResultFormat.coco], tmp_path).finish()
    truth = COCO(str(tmp_path / "images.coco.json"))
    found = truth.loadRes(str(tmp_path / "results.coco.json"))
    assert [truth.imgs[number]["file_name"] for number in sorted(truth.imgs)] == NAMES
    assert [len(found.getAnnIds([number])) for number in sorted(truth.imgs)] == [0, 1, 2, 3, 4]
    (first,) = found.loadAnns(found.getAnnIds([2]))
    assert first["bbox"] == [0, 1, 3, 4]
    assert truth.imgs[1]["probability"] == 0.1 + 0.2


def test_coco_without_a_box(tmp_path):
    written(FORMATS[ResultFormat.coco], tmp_path, NAMED[:1]).finish()
    assert json.loads((tmp_path / "results.coco.json").read_text()) == []
    assert len(json.loads((tmp_path / "images.coco.json").read_text())["images"]) == 1


@pytest.mark.parametrize("kind", [CsvResults, JsonResults])
@pytest.mark.parametrize("step", range(7))
def test_killed_anywhere_and_resumed(tmp_path, kind, step):
    """Files are cut where a process may have been killed: boxes come first, so that there may be more of them."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    written(kind, whole).finish()
    random = np.random.default_rng(step)
    written(kind, cut)
    main = next(cut.glob("predictions.partial.*"))
    content = main.read_bytes()
    main.write_bytes(content[: random.integers(len(content))])
    with kind(cut, IDENTITY, resume=True) as results:
        left = [(name, found) for name, found in NAMED if name not in results.done]
        assert len(left) + results.n_images == len(NAMED)
        results.add(left)
    results.finish()
    for name in (kind.main, *kind.others):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("kind", [CsvResults, JsonResults])
def test_a_finished_result_is_gone_on_with(tmp_path, kind):
    written(kind, tmp_path, NAMED[:3]).finish()
    with kind(tmp_path, IDENTITY, resume=True) as results:
        assert (results.n_images, results.n_unlike) == (3, 1)
        results.add(NAMED[3:])
    results.finish()
    written(kind, tmp_path / "whole").finish()
    assert results.path.read_bytes() == (tmp_path / "whole" / kind.main).read_bytes()


def test_killed_between_the_names_of_both_tables(tmp_path):
    written(CsvResults, tmp_path)
    (tmp_path / "boxes.partial.csv").replace(tmp_path / "boxes.csv")
    with CsvResults(tmp_path, IDENTITY, resume=True) as results:
        assert results.n_images == 5
    results.finish()
    assert len(pd.read_csv(tmp_path / "boxes.csv")) == 10


def test_without_resume_the_older_result_stays_until_the_new_one_is_whole(tmp_path):
    written(CsvResults, tmp_path).finish()
    before = (tmp_path / "predictions.csv").read_bytes()
    results = written(CsvResults, tmp_path, NAMED[:1])
    assert (tmp_path / "predictions.csv").read_bytes() == before
    results.finish()
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 1
    assert len(pd.read_csv(tmp_path / "boxes.csv")) == 0


def test_what_is_of_another_run_is_not_gone_on_with(tmp_path):
    written(CsvResults, tmp_path).finish()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DefectlocError, match="another run"):
        CsvResults(tmp_path, IDENTITY | {"run": "def"}, resume=True)
    assert sorted(tmp_path.iterdir()) == before


def test_killed_at_the_start_of_another_result(tmp_path):
    written(CsvResults, tmp_path).finish()
    (tmp_path / "boxes.partial.csv").write_text("")
    with CsvResults(tmp_path, IDENTITY, resume=True) as results:
        assert results.n_images == 5
    results.finish()
    assert len(pd.read_csv(tmp_path / "boxes.csv")) == 10


@pytest.mark.parametrize("spoiled", ["columns", "boxes", "twice", "bytes"])
def test_what_was_changed_by_hand_is_not_gone_on_with(tmp_path, spoiled):
    written(CsvResults, tmp_path).finish()
    table, boxes = tmp_path / "predictions.csv", tmp_path / "boxes.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    if spoiled == "columns":
        table.write_text("path\na.png\n")
    elif spoiled == "boxes":
        boxes.write_text("".join(boxes.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    elif spoiled == "twice":
        table.write_text(lines[0] + lines[1] + lines[1], encoding="utf-8")
    else:
        table.write_bytes(lines[0].encode() + b"\xff,\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DefectlocError, match="cannot be resumed"):
        CsvResults(tmp_path, IDENTITY, resume=True)
    assert sorted(tmp_path.iterdir()) == before
