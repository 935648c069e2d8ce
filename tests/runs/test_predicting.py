"""New images by a finished run."""

import json
import re
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from defectloc.model.novelty import Novelty
from defectloc.runs.directory import Run
from defectloc.runs.predictor import Predictor
from tests.conftest import FUSION, files_below, last_localization, write_image


@pytest.fixture
def run(finished) -> Run:
    return Run.open(next(finished.glob("pill/fold0-*")))


def test_test_images_come_out_as_in_the_run(run, command, tmp_path):
    expected = pd.read_csv(run.folder / "predictions.csv").query("split == 'test'")
    root = run.record["root"]
    outcome = command("predict", f"run={run.folder}", f"images={root}/pill", f"output={tmp_path / 'o'}", "threads=1")
    assert outcome.code == 0, outcome.err
    found = pd.read_csv(tmp_path / "o" / "predictions.csv")
    found["path"] = "pill/" + found["path"]
    both = expected.merge(found, on="path", suffixes=("", "_new"))
    assert len(both) == len(expected)
    # The run's features were rounded to half precision on their way through the store.
    np.testing.assert_allclose(both["log_odds_new"], both["log_odds"], rtol=0.02, atol=0.02)
    assert len(files_below(tmp_path / "o" / "overlays")) == len(found)


def test_verdicts_come_out_as_in_the_run(fused, command):
    run = Run.open(fused)
    images = f"images={run.record['root']}/pill"
    outcome = command("predict", f"run={fused}", images, "output=new", "threads=1", "overlays=false")
    assert outcome.code == 0, outcome.err
    known = pd.read_csv(last_localization(fused) / "predictions.csv").query("split == 'test'")
    found = pd.read_csv("new/predictions.csv")
    found["path"] = "pill/" + found["path"]
    both = known.merge(found, on="path", suffixes=("", "_new"))
    assert len(both) == len(known)
    limit = run.decision().threshold
    clear = (both["score"] - limit.score).abs() > 0.1
    assert clear.any()
    assert (both["verdict"] == both["verdict_new"])[clear].all()
    assert ((both["probability_new"] > limit.probability) == both["predicted_new"].astype(bool)).all()
    assert f"probability above {limit.probability:.3f}" in outcome.out


def test_a_tampered_product_is_refused(fused, command):
    path = next(fused.glob("maps/fusion-*/patch_head.npz"))
    with np.load(path) as content:
        arrays = dict(content)
    np.savez(path, **arrays | {"output_bias": arrays["output_bias"] + 1})
    write_image(Path("photos/a.png"), seed=1)
    sentence = command("predict", f"run={fused}", "images=photos", "output=new").sentence
    assert "no maps of localization.map=fusion" in sentence


def test_unreadable_image_is_named_and_skipped(run, command, tmp_path):
    write_image(tmp_path / "photos" / "a.png", seed=1)
    (tmp_path / "photos" / "b.png").write_text("no image")
    outcome = command(
        "predict", f"run={run.folder}", f"images={tmp_path / 'photos'}", f"output={tmp_path / 'o'}", "threads=1"
    )
    assert outcome.code == 2
    assert "b.png" in outcome.err
    assert "1 of 2 images" in outcome.err
    assert list(pd.read_csv(tmp_path / "o" / "predictions.csv")["path"]) == ["a.png"]


def test_one_image_by_name(run, command, tmp_path):
    photo = write_image(tmp_path / "a b, [c] 'd'.png", seed=1)
    outcome = command("predict", f"run={run.folder}", f"images={photo}", f"output={tmp_path / 'o'}", "overlays=false")
    assert outcome.code == 0, outcome.err
    assert list(pd.read_csv(tmp_path / "o" / "predictions.csv")["path"]) == [photo.name]


@pytest.mark.parametrize(
    ("images", "word"), [("nowhere", "does not exist"), ("empty", "holds no images"), ("note.txt", "not named")]
)
def test_bad_input(run, command, tmp_path, images, word):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    sentence = command(
        "predict", f"run={run.folder}", f"images={tmp_path / images}", f"output={tmp_path / 'o'}"
    ).sentence
    assert word in sentence
    assert not (tmp_path / "o").exists()


def test_overlays_among_the_images_are_not_predicted(run, command):
    write_image(Path("photos/a.png"), seed=1)
    for _ in range(2):
        outcome = command("predict", f"run={run.folder}", "images=photos", "output=photos/new", "threads=1")
        assert outcome.code == 0, outcome.err
    assert list(pd.read_csv("photos/new/predictions.csv")["path"]) == ["a.png"]


def test_another_output_among_the_images_is_not_predicted(run, command):
    write_image(Path("photos/a.png"), seed=1)
    for output in ("photos/new", "photos/other"):
        outcome = command("predict", f"run={run.folder}", "images=photos", f"output={output}", "threads=1")
        assert outcome.code == 0, outcome.err
    assert list(pd.read_csv("photos/other/predictions.csv")["path"]) == ["a.png"]


def test_nothing_of_an_older_prediction_is_left(run, command):
    for name in ("a.png", "crack/b.png"):
        write_image(Path("photos") / name, seed=1)
    common = ("predict", f"run={run.folder}", "output=new", "threads=1")
    assert command(*common, "images=photos").code == 0
    assert "overlays/crack/b.png.png" in files_below(Path("new"))
    assert command(*common, "images=photos/crack", "format=jsonl", "overlays=false").code == 0
    assert set(files_below(Path("new"))) - {".lock"} == {"predict.json", "predictions.jsonl"}


@pytest.fixture
def photos() -> Path:
    for number in range(5):
        write_image(Path(f"photos/{number}.png"), seed=number, size=30 + number)
    return Path("photos")


@pytest.fixture
def predict(run, command):
    """Predict into `new` without overlays."""

    def start(*arguments: str, code: int = 0):
        outcome = command(
            "predict", f"run={run.folder}", "output=new", "threads=1", "overlays=false", "batch_size=2", *arguments
        )
        assert outcome.code == code, outcome.err
        return outcome

    return start


def table() -> pd.DataFrame:
    return pd.read_csv("new/predictions.csv", keep_default_na=False)


def test_images_per_second_are_printed(predict, photos):
    outcome = predict(f"images={photos}")
    assert "5 images: " in outcome.out
    assert " images/s; new/predictions.csv" in outcome.out


@pytest.mark.parametrize("threads", [2, 3, 11])
def test_photographs_at_once_come_out_as_one_by_one(fused, command, photos, monkeypatch, threads):
    """In the same order, and each by its share of the threads."""
    seen: dict[int, set[int]] = {}

    class Watched(Predictor):
        def predict(self, images, batch_size=8):
            seen.setdefault(threading.get_ident(), set()).add(torch.get_num_threads())
            return super().predict(images, batch_size)

    monkeypatch.setattr("defectloc.runs.predicting.Predictor", Watched)
    found = []
    for n in (1, threads):
        seen.clear()
        outcome = command(
            "predict", f"run={fused}", "images=photos", f"output=new{n}", f"threads={n}", "overlays=false"
        )
        assert outcome.code == 0, outcome.err
        found.append(pd.read_csv(f"new{n}/predictions.csv"))
        n_workers, share = {1: (1, 1), 2: (2, 1), 3: (3, 1), 11: (2, 5)}[n]
        assert set.union(*seen.values()) == {share}
        assert 1 <= len(seen) <= n_workers
        assert torch.get_num_threads() == n
    assert list(found[0]["path"]) == list(found[1]["path"])
    np.testing.assert_allclose(found[0]["score"], found[1]["score"], rtol=1e-3, atol=1e-3)


def test_a_list_keeps_its_order_and_names_each_once(predict, photos):
    listed = [f"photos/{number}.png" for number in (3, 0, 4, 3, 1)]
    Path("list.txt").write_text("\n".join(listed))
    predict("images=list.txt")
    assert list(table()["path"]) == [*listed[:3], listed[4]]


def test_a_pattern(predict, photos):
    write_image(photos / "deeper" / "5.png", seed=5)
    predict("images=photos/**/[45].png")
    assert list(table()["path"]) == ["4.png", "deeper/5.png"]


def test_a_path_that_leaves_the_folder_leaves_no_overlay_outside(run, command, tmp_path):
    write_image(tmp_path / "elsewhere" / "a.png", seed=1)
    Path("work").mkdir()
    Path("work/list.txt").write_text(f"../elsewhere/a.png\n{tmp_path}/elsewhere/a.png\n")
    outcome = command("predict", f"run={run.folder}", "images=work/list.txt", "output=work/new", "threads=1")
    assert outcome.code == 0, outcome.err
    assert len(files_below(Path("work/new/overlays"))) == 2
    assert files_below(tmp_path / "elsewhere") == ["a.png"]


ODD = [
    'it\'s "b".png',
    "<script>alert(1)<script>.png",
    "語ü 😀.png",
    "d" * 200 + ".png",
    "a,b;c.png",
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "coco"])
def test_odd_names_in_every_format(run, command, kind):
    for number, name in enumerate(ODD):
        write_image(Path("photos") / name, seed=number)
    outcome = command("predict", f"run={run.folder}", "images=photos", "output=new", "threads=1", f"format={kind}")
    assert outcome.code == 0, outcome.err
    if kind == "csv":
        found = list(table()["path"])
    else:
        lines = Path("new/predictions.jsonl").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line)["path"] for line in lines]
    assert found == sorted(ODD)
    assert len(files_below(Path("new/overlays"))) == len(ODD)
    if kind == "coco":
        images = json.loads(Path("new/images.coco.json").read_text(encoding="utf-8"))["images"]
        assert [image["file_name"] for image in images] == sorted(ODD)
        boxes = json.loads(Path("new/results.coco.json").read_text())
        assert {box["image_id"] for box in boxes} <= {image["id"] for image in images}


def test_the_formats_say_the_same(predict, photos):
    predict(f"images={photos}")
    rows = table().set_index("path")
    boxes = pd.read_csv("new/boxes.csv")
    predict(f"images={photos}", "format=coco")
    for line in Path("new/predictions.jsonl").read_text().splitlines():
        found = json.loads(line)
        row = rows.loc[found["path"]]
        assert (found["score"], found["verdict"], len(found["boxes"])) == (row.score, row.verdict, row.n_boxes)
    assert len(json.loads(Path("new/results.coco.json").read_text())) == len(boxes)


def test_resume_predicts_only_what_is_new(predict, photos, monkeypatch):
    predict(f"images={photos}")
    before = Path("new/predictions.csv").read_text()
    write_image(photos / "00.png", seed=9)
    outcome = predict(f"images={photos}", "resume=true")
    assert "6 images: " in outcome.out
    assert "1 of them new" in outcome.out
    assert Path("new/predictions.csv").read_text().startswith(before)
    assert list(table()["path"])[-1] == "00.png"
    monkeypatch.setattr(Predictor, "predict", lambda self, images, size: [])
    assert "0 of them new" in predict(f"images={photos}", "resume=true").out


def test_images_to_review_are_counted_apart(predict, photos, monkeypatch):
    outcome = predict(f"images={photos}")
    assert "to review" not in outcome.out
    real = Predictor.predict
    verdicts = iter(["good", "review", "defective", "review", "good"])

    def judged(self, images, batch_size):
        found = real(self, images, batch_size)
        named = [(each, next(verdicts)) for each in found]
        return [replace(each, verdict=verdict, predicted=int(verdict != "good")) for each, verdict in named]

    monkeypatch.setattr(Predictor, "predict", judged)
    assert re.search(
        r"5 images: 1 predicted defective \(probability above 0\.\d{3}\), 2 to review \(above 0\.\d{3}\), 2 good;",
        predict(f"images={photos}").out,
    )


def test_resume_does_not_mix_runs_and_folders(predict, photos, finished):
    predict(f"images={photos}")
    before = files_below(Path("new"))
    other = next(finished.glob("pill/fold1-*"))
    assert "another run" in predict(f"images={photos}", "resume=true", f"run={other}", code=2).sentence
    shutil.copytree(photos, "others")
    assert "other images" in predict("images=others", "resume=true", code=2).sentence
    assert files_below(Path("new")) == before
    predict(f"images={photos}", "resume=true")
    assert len(table()) == 5


def test_a_stop_ends_after_a_batch_and_resume_goes_on(predict, photos, monkeypatch):
    real, calls = Predictor.predict, []

    def stopped(self, images, batch_size):
        calls.append(len(images))
        if len(calls) == 2:
            # The handler of SIGINT is the same (test_signals.py).
            signal.raise_signal(signal.SIGTERM)
        return real(self, images, batch_size)

    monkeypatch.setattr(Predictor, "predict", stopped)
    outcome = predict(f"images={photos}", code=130)
    assert "stopped after 4 images; resume=true goes on" in outcome.err
    assert not Path("new/predictions.csv").exists()
    predict(f"images={photos}", "resume=true")
    assert calls == [2, 2, 1]
    assert list(table()["path"]) == [f"{n}.png" for n in range(5)]


def test_strict_ends_at_the_first_unreadable_image(predict, photos):
    (photos / "2.png").write_text("no image")
    outcome = predict(f"images={photos}", "strict=true", code=2)
    assert "2.png" in outcome.sentence
    assert not Path("new/predictions.csv").exists()
    write_image(photos / "2.png", seed=2)
    predict(f"images={photos}", "resume=true")
    assert sorted(table()["path"]) == [f"{n}.png" for n in range(5)]


def test_unlike_the_training_photographs(fused, command, photos, monkeypatch):
    monkeypatch.setattr(Novelty, "__call__", lambda self, levels: np.array([0.5, 2.0, 0.9, 1.1, 1.0]))
    outcome = command("predict", f"run={fused}", f"images={photos}", "output=new", "threads=1", "format=jsonl")
    assert outcome.code == 0, outcome.err
    rows = [json.loads(line) for line in Path("new/predictions.jsonl").read_text().splitlines()]
    assert [row["unlike_training"] for row in rows] == [0, 1, 0, 1, 0]
    for row in rows:
        unlike = row["unlike_training"] == 1
        assert (row["probability"] is None) == (row["verdict"] == "unlike training") == unlike
        assert not (unlike and row["boxes"])
        assert row["score"] is not None
    assert "2 unlike training;" in outcome.out
    assert "2 images are unlike the training photographs (unlike_training = 1, the first now: 1.png)" in outcome.err


def test_another_aspect_than_that_of_the_training_photographs_is_said(predict, photos):
    """The training photographs are squares."""
    write_image(photos / "square.png", seed=8, size=50)
    assert "aspect" not in predict(f"images={photos}").err
    for name, (width, height) in {"a": (44, 40), "wide": (45, 40), "tall": (40, 45)}.items():
        Image.new("RGB", (width, height)).save(photos / f"{name}.png")
    outcome = predict(f"images={photos}")
    assert (
        "2 of the 9 images have another aspect ratio than the training photographs, the first: tall.png" in outcome.err
    )


def test_only_training_photographs_tell_which_aspects_are_known(predict, photos, monkeypatch):
    whole = Run.catalog

    def with_wide_test_photographs(self):
        catalog = whole(self).copy()
        catalog.loc[catalog["split"] == "test", "width"] *= 2
        return catalog

    monkeypatch.setattr(Run, "catalog", with_wide_test_photographs)
    Image.new("RGB", (80, 40)).save(photos / "wide.png")
    assert "1 of the 6 images have another aspect ratio" in predict(f"images={photos}").err


def test_a_run_without_a_bank_does_not_know_what_is_unlike(predict, photos):
    predict(f"images={photos}")
    assert set(table()["unlike_training"]) == {""}
    assert set(table()["novelty"]) == {""}


def test_the_ignore_mask_of_the_run_counts(fused, command):
    run = Run.open(fused)
    left = np.zeros((64, 64), np.uint8)
    left[:, :32] = 255
    Image.fromarray(left).save("mask.png")
    # The fit and its maps are found; only the localization is another.
    assert command("train", *FUSION, "data.ignore_mask=" + str(Path("mask.png").resolve())).code == 0
    known = pd.read_csv(last_localization(fused) / "boxes.csv")
    Path("mask.png").unlink()
    arguments = (f"run={fused}", f"images={run.record['root']}/pill", "output=new", "threads=1", "overlays=false")
    outcome = command("predict", *arguments)
    assert outcome.code == 0, outcome.err
    found = pd.read_csv("new/boxes.csv").assign(path=lambda boxes: "pill/" + boxes["path"])
    assert len(found)
    assert found["x0"].min() >= 32
    both = known.merge(found, on=["path", "x0", "y0", "x1", "y1"])
    # Stored features are rounded to half precision, so a box may differ here and there.
    assert len(both) >= 0.8 * len(known) > 0
    (last_localization(fused) / "ignore_mask.png").unlink()
    assert "start its fit again" in command("predict", *arguments).sentence
