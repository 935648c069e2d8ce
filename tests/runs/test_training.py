"""A fold fitted by the real command line: found again, swept, killed and resumed, started twice."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from defectloc import files
from defectloc.data import digests
from defectloc.files import lock
from defectloc.runs import directory
from defectloc.runs.directory import Run
from defectloc.signals import REQUEUE
from tests.conftest import FUSION, SMALL, SYNTHETIC, files_below, last_localization, two_folders
from tests.narrow import COMMAND

METRICS = """subset fold n_train n_validation n_test balanced_accuracy accuracy auroc average_precision f1_max confusion
escapes overkill pixel_auroc pixel_ap aupro pointing_game max_box_acc_v2 box_f1_30 box_f1_50 epochs seconds
localization"""
# With statistics of batches, and slow enough to be killed between two epochs.
DENSE_NET = ["model=densenet121", "training.epochs=4"]


def folder_of(outputs: Path, fold: int = 0) -> Path:
    (folder,) = outputs.glob(f"pill/fold{fold}-*")
    return folder


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Which files are still the same ones: a file written anew by renaming has another inode."""
    return {name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns) for name in files_below(folder)}


def results(folder: Path) -> dict[str, object]:
    """All that a fit gives, but how long it took."""
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("seconds", "checksum"):
        metrics.pop(name, None)
    return {
        "metrics": metrics,
        **{name: (folder / name).read_bytes() for name in ("predictions.csv", "history.csv", "catalog.csv")},
        "maps": {path: cells.tobytes() for path, cells in Run.open(folder).maps("cam").cells.items()},
    }


def wait_for(pattern: str, child: subprocess.Popen) -> list[Path]:
    """Wait until a child has written a file."""
    deadline = time.monotonic() + 120
    while not (found := list(Path().glob(pattern))):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.fixture
def outputs(finished, tmp_path) -> Path:
    """A copy of the two finished folds, to which a test may add."""
    return Path(shutil.copytree(finished, tmp_path / "outputs"))


def test_two_folds_of_a_sweep(finished):
    folders = [folder_of(finished, fold) for fold in (0, 1)]
    assert folders[0].name.partition("-")[2] == folders[1].name.partition("-")[2]
    tables = []
    for fold, folder in enumerate(folders):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics.keys() >= set(METRICS.split())
        assert (metrics["fold"], metrics["subset"], metrics["epochs"]) == (fold, "pill", 2)
        assert metrics["n_train"] + metrics["n_validation"] + metrics["n_test"] == 59
        assert metrics["seconds"].keys() == {"features", "fit", "predict", "localize", "evaluate"}
        confusion = metrics["confusion"]
        assert (confusion["fn"], confusion["fp"]) == (metrics["escapes"], metrics["overkill"])
        assert sum(confusion.values()) == metrics["n_test"]
        assert not (folder / ".fit").exists()
        tables.append(pd.read_csv(folder / "predictions.csv"))
        assert list(tables[-1]) == ["path", "split", "label", "defect_type", "log_odds"]
        boxes = pd.read_csv(folder / "localization" / metrics["localization"] / "boxes.csv")
        assert list(boxes) == ["path", "x0", "y0", "x1", "y1", "score", "score_mean"]
    tested = [set(table.loc[table["split"] == "test", "path"]) for table in tables]
    assert not tested[0] & tested[1]


def test_decision_is_the_mean_of_the_map(finished):
    run = Run.open(folder_of(finished))
    table, maps = run.images(), run.maps("cam").cells
    assert set(table["path"]) == set(maps)
    means = [maps[path].astype(np.float64).mean() for path in table["path"]]
    np.testing.assert_allclose(table["log_odds"], means, atol=1e-6)


def test_checkpoint_is_plain_tensors_and_strings(finished):
    content = torch.load(folder_of(finished) / "model.ckpt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in content.pop("state_dict").values())
    assert all(isinstance(value, str | int) for value in content.values())
    (maps,) = folder_of(finished).glob("maps/cam-*/maps.npz")
    assert np.load(maps, allow_pickle=False)["maps"].dtype == np.float32


def test_finished_fit_of_a_data_set_that_was_moved(command, tmp_path):
    """It is found again, with its masks, and later commands know where the images are."""
    assert command("train", *SYNTHETIC).code == 0
    folder = next(Path("outputs").glob("pill/fold0-*"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n_masks"] > 0
    before = Path(json.loads((folder / "run.json").read_text())["root"])
    before.rename(tmp_path / "moved")
    rest = [a for a in SMALL if not a.startswith("data.") or a.startswith("data.image_size")]
    arguments = ["data=mvtec", "subset=pill", f"data.root={tmp_path / 'moved'}", *rest]
    assert command("train", *arguments, "localization.threshold=0.7").code == 0
    assert json.loads((folder / "metrics.json").read_text())["n_masks"] == metrics["n_masks"]
    assert command("localize", f"run={folder}", "localization=cam").code == 0
    assert json.loads((folder / "metrics.json").read_text())["n_masks"] == metrics["n_masks"]
    assert [path.name for path in Path("outputs").glob("pill/fold0-*")] == [folder.name]


def test_finished_fit_is_found_again(command, outputs):
    folder = folder_of(outputs)
    before = state_of(folder)
    assert command("train", *SYNTHETIC, f"outputs={outputs}").code == 0
    changed = {name for name, state in state_of(folder).items() if before.get(name) != state}
    # The fixture moved the data as well.
    assert changed <= {"metrics.json", "run.json"}


def test_a_log_file_says_what_is_at_work(command):
    """By a line for each stage, in their order; what is found finished is not said."""
    given = [*FUSION, "figures=true"]
    said = command("train", *given).err
    stages = ["checking masks: 24 images", "features: 59 images", "class network: ", "memory bank: ", "patch head: "]
    stages += ["fusion maps: ", "scoring maps: ", "figures\n", "report: "]
    places = [said.index(f"\n{stage}") for stage in stages]
    assert places == sorted(places)
    assert all(said.count(f"\n{stage}") == 1 for stage in stages if stage != "scoring maps: ")
    again = command("train", *given).err
    assert not any(f"\n{stage}" in again for stage in stages)


def test_threshold_sweep_fits_once(command, outputs):
    folder = folder_of(outputs)
    before = state_of(folder)
    assert command("train", "-m", *SYNTHETIC, f"outputs={outputs}", "localization.threshold=0.5,0.6").code == 0
    after = state_of(folder)
    assert {name for name in before if before[name] != after[name]} <= {"metrics.json", "run.json"}
    files = (folder / "localization").glob("*/localizer.json")
    thresholds = {json.loads(path.read_text())["threshold"] for path in files}
    assert thresholds == {0.5, 0.6, 0.8}
    assert json.loads((last_localization(folder) / "localizer.json").read_text())["threshold"] == 0.6
    assert len(list(outputs.glob("pill/fold*"))) == 2


def test_photographs_are_hashed_once(command, outputs, monkeypatch):
    hashed, original, now = [], files.digest, time.time_ns
    monkeypatch.setattr(files, "digest", lambda path: hashed.append(path.suffix) or original(path))
    # Let them be older than the resolution of their time stamps.
    monkeypatch.setattr(digests.time, "time_ns", lambda: now() + 10_000_000_000)
    counts = []
    for threshold in (0.5, 0.6):
        hashed.clear()
        assert command("train", *SYNTHETIC, f"outputs={outputs}", f"localization.threshold={threshold}").code == 0
        counts.append(hashed.count(".png"))
    # The masks as well.
    assert counts == [59 + 24, 0]


def test_killed_fit_resumes_to_the_same_result(command, tmp_path):
    arguments = [*SYNTHETIC, *DENSE_NET]
    assert command("train", *arguments, "outputs=undisturbed").code == 0
    child = subprocess.Popen(
        [sys.executable, "-m", "defectloc.train", *arguments, "outputs=killed"], stderr=subprocess.DEVNULL
    )
    last = wait_for("killed/pill/*/.fit/last.ckpt", child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    n_done = len(torch.load(last[0], weights_only=True)["history"])
    assert 1 <= n_done < 4
    assert not (folder_of(Path("killed")) / "model.ckpt").exists()
    assert command("train", *arguments, "outputs=killed").code == 0
    assert results(folder_of(Path("killed"))) == results(folder_of(Path("undisturbed")))


@pytest.mark.slow
def test_terminated_fit_does_not_look_like_success():
    arguments = [*SYNTHETIC, *DENSE_NET, "training.epochs=200"]
    child = subprocess.Popen([sys.executable, "-m", "defectloc.train", *arguments], stderr=subprocess.DEVNULL)
    wait_for("outputs/pill/*/.fit/last.ckpt", child)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == REQUEUE


@pytest.mark.slow
def test_fit_killed_before_its_results_were_written_is_taken_over(command, tmp_path):
    """The last epoch is there, the checkpoint or the record is not."""
    arguments = [*SYNTHETIC, *DENSE_NET, "training.epochs=2"]
    code = (
        "import os, sys; from defectloc.model import weights;"
        "weights.save = lambda *_: os.kill(os.getpid(), 9);"
        "from defectloc.train import main; main()"
    )
    killed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    (last,) = Path("outputs").glob("pill/*/.fit/last.ckpt")
    learnt = torch.load(last, weights_only=True)["state_dict"]
    assert command("train", *arguments).code == 0
    fitted = torch.load(folder_of(Path("outputs")) / "model.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(fitted["head.weight"], learnt["classifier.head.weight"])


@pytest.mark.slow
def test_two_jobs_with_the_same_configuration(finished, tmp_path):
    """Both find the fold busy and say so; then one fits and the other takes what it finds."""
    folder = tmp_path / "outputs" / "pill" / folder_of(finished).name
    command = [*COMMAND, "train", *SYNTHETIC]
    with lock(folder / ".lock", "the test"):
        jobs = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
        for job in jobs:
            assert any(b"waiting: another process is busy with the same fold" in line for line in job.stderr)
    deadline = time.monotonic() + 120
    while all(job.poll() is None for job in jobs):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    written = (folder / "model.ckpt").stat()
    for job in jobs:
        job.stderr.read()
        assert job.wait() == 0
        job.stderr.close()
    assert (folder / "model.ckpt").stat().st_ino == written.st_ino
    assert (folder / "model.ckpt").stat().st_mtime_ns == written.st_mtime_ns


@pytest.mark.slow
def test_streamed_fit_equals_a_stored_one(command):
    # Without batch statistics, which on maps of one cell amplify every rounding.
    assert command("train", *SYNTHETIC, "features.dtype=float32").code == 0
    assert command("train", *SYNTHETIC, "features.cache=false").code == 0
    tables = [pd.read_csv(path) for path in Path("outputs").glob("pill/*/predictions.csv")]
    assert len(tables) == 2
    np.testing.assert_allclose(tables[0]["log_odds"], tables[1]["log_odds"], atol=2e-3)


def test_the_trunk_of_a_streamed_fit_has_one_precision(command, synthetic, monkeypatch):
    """At the start of the head, in the maps of all three kinds, and in a prediction."""
    asked = set()
    for name in ("fit", "predict", "trunk"):

        def noted(device, precision, name=name):
            asked.add((name, precision))
            return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")

        monkeypatch.setattr(f"defectloc.model.{name}.autocast", noted)
    few = ["data.limit=24", "n_folds=2", "training.start=logistic", "features.cache=false"]
    outcome = command("train", *FUSION, *few, "training.precision=bfloat16")
    assert outcome.code == 0, outcome.err
    assert asked == {("fit", "bfloat16"), ("predict", "bfloat16"), ("trunk", "bfloat16")}
    asked.clear()
    photograph = next(synthetic.glob("pill/test/*/*.png"))
    outcome = command("predict", f"run={folder_of(Path('outputs'))}", f"images={photograph}", "output=new", "threads=1")
    assert outcome.code == 0, outcome.err
    assert asked == {("trunk", "bfloat16")}


def test_batch_statistics_of_the_tail_are_learnt_and_those_of_the_trunk_are_not(command):
    assert (
        command("train", *SYNTHETIC, "model=densenet121", "training.epochs=1", "data.limit=20", "n_folds=2").code == 0
    )
    (path,) = Path("outputs").glob("pill/*/model.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state["features.denseblock4.denselayer1.norm1.running_mean"].abs().max() > 0
    assert state["features.denseblock3.denselayer1.norm1.running_mean"].abs().max() == 0


@pytest.mark.slow
def test_fit_from_the_first_layer_on(command):
    """Nothing is frozen then, and what is stored are the images."""
    arguments = [*SYNTHETIC, "model.trainable_from=conv1_1", "training.epochs=1", "data.limit=20", "n_folds=2"]
    for typed in ("features.dtype=float32", "features.cache=false"):
        assert command("train", *arguments, typed, f"outputs={typed[:12]}").code == 0
    tables = [pd.read_csv(path) for path in sorted(Path().glob("features.*/pill/*/predictions.csv"))]
    np.testing.assert_allclose(tables[0]["log_odds"], tables[1]["log_odds"], atol=1e-3)


@pytest.mark.parametrize(
    ("augmentation", "word"), [("flips", "views"), ("rotation", "streamed"), ("light", "streamed")]
)
def test_augmented_fit_says_whether_it_streams(command, augmentation, word):
    outcome = command("train", *SYNTHETIC, "training.epochs=1", f"augmentation={augmentation}")
    assert outcome.code == 0, outcome.err
    assert word in outcome.err
    assert Path("outputs/.features").exists() == (word == "views")


def test_case_study_shrunk(command):
    small = [argument for argument in SMALL if "target_train_accuracy" not in argument]
    assert command("train", "experiment=case_study", "data=synthetic", "subset=screw", *small).code == 0
    (path,) = Path("outputs").glob("screw/fold0-*/metrics.json")
    assert json.loads(path.read_text())["n_validation"] == 0


def test_given_split_and_groups(command, tmp_path):
    assert command("train", *SYNTHETIC, "data.split=official", "data.n_defective=8").code == 0
    table = pd.read_csv(folder_of(Path("outputs")) / "predictions.csv")
    assert table.loc[table["split"] == "test", "path"].str.startswith("pill/test/").all()
    assert (table.query("split == 'test'")["label"] == 1).sum() == 24 - 8


@pytest.mark.parametrize("content", ["", "{", "null"])
def test_an_unreadable_record_counts_as_missing(command, outputs, content):
    """As after a power cut; the fit is made again."""
    folder = folder_of(outputs)
    before = results(folder)["predictions.csv"]
    (folder / "run.json").write_text(content)
    assert command("train", *SYNTHETIC, f"outputs={outputs}").code == 0
    assert results(folder)["predictions.csv"] == before


@pytest.mark.parametrize("name", ["model.ckpt", "catalog.csv", "predictions.csv", "decision.json", "metrics.json"])
def test_a_file_that_was_changed_is_made_again(command, outputs, name):
    """As after a flipped bit, which nothing would tell otherwise."""
    folder = folder_of(outputs)
    path = folder / name if (folder / name).is_file() and name != "metrics.json" else last_localization(folder) / name
    before, predictions = path.read_bytes(), results(folder)["predictions.csv"]
    changed = bytearray(before)
    changed[-20] ^= 1
    path.write_bytes(changed)
    assert command("train", *SYNTHETIC, f"outputs={outputs}").code == 0
    assert results(folder)["predictions.csv"] == predictions
    if name != "metrics.json":
        assert path.read_bytes() == before
    assert directory.whole_metrics(last_localization(folder)) is not None


@pytest.mark.parametrize("content", ["{}", '{"files": {}}', "[]", ""])
def test_metrics_that_say_nothing_are_written_again(command, outputs, content):
    folder = folder_of(outputs)
    path = last_localization(folder) / "metrics.json"
    before = json.loads(path.read_text())
    path.write_text(content)
    outcome = command("train", *SYNTHETIC, f"outputs={outputs}")
    assert outcome.code == 0, outcome.err
    again = json.loads(path.read_text())
    for metrics in (before, again):
        del metrics["seconds"], metrics["checksum"]
    assert again == before


def test_what_is_no_image_is_named_before_the_fit(command, tmp_path):
    victim = two_folders(tmp_path / "photos") / "good" / "03.png"
    victim.write_bytes(b"\0" * 100)
    arguments = ["data=folder", "subset=part", f"data.root={tmp_path / 'photos'}", *SMALL]
    for fold in range(5):
        outcome = command("train", *arguments, "features.cache=false", "features.workers=0", f"fold={fold}")
        assert str(victim) in outcome.sentence
    assert not list(Path("outputs").glob("part/*/model.ckpt"))


def test_empty_maps_are_made_again(command, outputs):
    (path,) = folder_of(outputs).glob("maps/cam-*/maps.npz")
    path.write_bytes(b"")
    assert command("train", *SYNTHETIC, f"outputs={outputs}").code == 0
    assert path.stat().st_size > 0


def test_the_live_ignore_mask_counts(command, outputs, tmp_path):
    metrics = json.loads((folder_of(outputs) / "metrics.json").read_text())
    pixels = np.zeros((64, 64), np.uint8)
    pixels[20:44] = 255
    Image.fromarray(pixels).save(tmp_path / "fixture.png")
    arguments = [*SYNTHETIC, f"outputs={outputs}"]
    assert command("train", *arguments, f"data.ignore_mask={tmp_path / 'fixture.png'}").code == 0
    again = json.loads((folder_of(outputs) / "metrics.json").read_text())
    assert again["pixel_ap"] != metrics["pixel_ap"]
    assert again["localization"] != metrics["localization"]
    sentence = command("train", *arguments, "data.ignore_mask=nowhere.png").sentence
    assert "nowhere.png does not exist" in sentence


def test_an_empty_or_turned_mask_is_told_before_the_fit(command, mvtec):
    mask = next(mvtec.glob("pill/ground_truth/*/*.png"))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(mask)
    rest = [a for a in SMALL if not a.startswith("data.") or a.startswith("data.image_size")]
    assert mask.name in command("train", "subset=pill", f"data.root={mvtec}", *rest).sentence
    Image.fromarray(np.full((64, 40), 255, np.uint8)).save(mask)
    photograph = mvtec / "pill" / "test" / mask.parent.name / mask.name.replace("_mask", "")
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(photograph)
    arguments = ("train", "subset=pill", f"data.root={mvtec}", *rest, "data.image_size=[32,32]")
    assert f"{mask.name} is 64 x 40, its photograph 40 x 64" in command(*arguments).sentence
    assert not list(Path("outputs").glob("pill/fold0-*/model.ckpt"))


def test_the_default_shows_the_class_network_beside(fused):
    metrics = json.loads((fused / "metrics.json").read_text())
    assert 0 <= metrics["class_network"]["balanced_accuracy"] <= 1
    assert set(metrics["maps"]) == {"cam", "memory", "fusion"}


def test_two_memory_settings_keep_their_products_and_rows(command, fused):
    first = json.loads((fused / "metrics.json").read_text())
    before = state_of(fused)
    assert command("train", *FUSION, "memory.dims=16").code == 0
    second = json.loads((fused / "metrics.json").read_text())
    assert first["localization"] != second["localization"]
    assert first["maps"]["memory"] != second["maps"]["memory"]
    after = state_of(fused)
    assert {name for name in before if before[name] != after.get(name)} <= {"metrics.json", "run.json"}
    assert command("summarize").code == 0
    assert len(pd.read_csv("outputs/summary.csv")) == 2
