"""Experiment trackers: what they are told, once for each localization of each run."""

import importlib.util
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from defectloc.config import LoggerConfig, LoggerName
from defectloc.errors import DefectlocError
from defectloc.reporting.labels import flat
from defectloc.runs.reports.one_run import REPORT, report_key
from defectloc.runs.summarizing import results_of
from defectloc.runs.tracking.command import tracker_of
from defectloc.runs.tracking.content import Tracked, tracked, tracked_run
from tests.conftest import SYNTHETIC, files_below, last_localization, write_image
from tests.handmade import five_images, localized, post_process, write_run

SWEEP = ["-m", *SYNTHETIC, "fold=0,1", "localization.threshold=0.5,0.6"]


@pytest.fixture
def outputs(finished, tmp_path) -> Path:
    """A copy of two finished folds."""
    return Path(shutil.copytree(finished, tmp_path / "outputs"))


@pytest.fixture
def told(tmp_path) -> Tracked:
    """What is told of a run by hand with a figure and a report."""
    run = write_run(tmp_path, five_images())
    folder = localized(run, post_process(run))
    write_image(folder / "figures" / "test.png")
    (run.folder / REPORT).write_text(f'<meta name="defectloc-report" content="{report_key(folder.name)}">')
    return tracked_run(folder)


def test_folders_of_the_machine_are_told_by_their_names(tmp_path):
    settings = {
        "data": {"good": str(tmp_path / "ok"), "defective": "bad"},
        "model": {"weights": str(tmp_path / "w.pt")},
    }
    run = write_run(tmp_path, five_images())
    result = results_of(localized(run, post_process(run)).parent.parent)[0]
    given = tracked(replace(result, settings=result.settings | flat(settings))).parameters
    assert (given["data.good"], given["data.defective"], given["model.weights"]) == ("ok", "bad", "w.pt")


def csv_folders() -> list[Path]:
    return [path.parent for path in Path("outputs/.tracking/csv").rglob("tracked.json")]


def test_what_is_told(told):
    assert told.tags == {"subset": "part", "fold": "0", "fingerprint": "abc", "localization": told.tags["localization"]}
    assert told.parameters["localization.threshold"] == 0.8
    assert told.parameters["model.name"] == "vgg16"
    assert told.history == [(1, {"train_loss": 1.0, "train_accuracy": 1.0})]
    assert (told.scores["confusion.tp"], told.scores["n_test"]) == (2, 4)
    assert set(told.artifacts) == {"metrics.json", "figures/test.png", "report.html"}


def test_a_report_of_another_localization_is_none_of_it(told):
    report = told.artifacts["report.html"]
    report.write_text(f'<meta name="defectloc-report" content="{report_key("cam-0")}">')
    folder = told.artifacts["metrics.json"].parent
    assert "report.html" not in tracked_run(folder).artifacts
    (folder / "boxes.csv").write_text("changed")
    with pytest.raises(DefectlocError, match="is not whole"):
        tracked_run(folder)


def test_csv(told):
    tracker = tracker_of(LoggerConfig(LoggerName.csv), Path("outputs"))
    assert tracker.add(told)
    folder = Path("outputs/.tracking/csv/part/fold0-abc") / told.tags["localization"]
    epoch, final = pd.read_csv(folder / "metrics.csv").to_dict("records")
    assert (epoch["step"], epoch["train_loss"]) == (1, 1.0)
    assert final["balanced_accuracy"] == told.scores["balanced_accuracy"]
    parameters = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert (parameters["model.name"], parameters["fingerprint"]) == ("vgg16", "abc")
    for name, path in told.artifacts.items():
        assert (folder / "artifacts" / name).read_bytes() == path.read_bytes()
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    assert not tracker.add(told)
    assert {name: (folder / name).read_bytes() for name in files_below(folder)} == before


def test_csv_of_a_killed_process_is_written_again(told):
    tracker = tracker_of(LoggerConfig(LoggerName.csv), Path("outputs"))
    tracker.add(told)
    (folder,) = csv_folders()
    whole = (folder / "metrics.csv").read_bytes()
    (folder / "tracked.json").unlink()
    (folder / "metrics.csv").write_bytes(whole[:40])
    assert tracker.add(told)
    assert (folder / "metrics.csv").read_bytes() == whole


def test_a_figure_that_came_later_is_added(told):
    tracker = tracker_of(LoggerConfig(LoggerName.csv), Path("outputs"))
    tracker.add(told)
    write_image(told.artifacts["figures/test.png"].with_name("thresholds.png"))
    assert not tracker.add(tracked_run(told.artifacts["metrics.json"].parent))
    (folder,) = csv_folders()
    assert (folder / "artifacts" / "figures" / "thresholds.png").is_file()


@pytest.mark.slow
def test_a_sweep_of_four_and_what_is_found_again(outputs, command):
    fits = sorted(path.name for path in outputs.glob("pill/fold*"))
    outcome = command("train", *SWEEP, "logger=csv")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("\nlogged: outputs/.tracking/csv\n") == 4
    assert sorted(path.name for path in outputs.glob("pill/fold*")) == fits, "a tracker is no part of a fit"
    folders = csv_folders()
    assert len(folders) == 4
    thresholds = {yaml.safe_load((path / "hparams.yaml").read_text())["localization.threshold"] for path in folders}
    assert thresholds == {0.5, 0.6}
    again = command("train", *SWEEP, "logger=csv")
    assert "4 of 4 jobs are finished" in again.err
    assert "logged" not in again.out
    for lost, n_lost in ((folders[0], 1), (outputs / ".tracking", 4)):
        shutil.rmtree(lost)
        again = command("train", *SWEEP, "logger=csv")
        assert "4 of 4 jobs are finished" in again.err
        assert f"\nlogged: {n_lost} runs that were finished before: outputs/.tracking/csv\n" in f"\n{again.out}"
        assert sorted(csv_folders()) == sorted(folders)
    assert (
        "\nlogged before: "
        in command(
            "train",
            *[each for each in SWEEP[1:] if "," not in each],
            "logger=csv",
            "fold=0",
            "localization.threshold=0.5",
        ).out
    )
    # The two of the fixture are new.
    assert "logged: 2 runs, 4 before" in command("track", "logger=csv").out
    assert "logged: 0 runs, 6 before" in command("track", "logger=csv").out
    assert len(csv_folders()) == 6


def test_the_tracker_is_in_no_record(command):
    outcome = command("train", *SYNTHETIC, "training.epochs=1", "logger=csv")
    assert outcome.code == 0, outcome.err
    record = next(Path("outputs").glob("pill/fold0-*/run.json"))
    assert "logger" not in json.loads(record.read_text())["settings"]
    assert not any("logger" in yaml.safe_load((path / "hparams.yaml").read_text()) for path in csv_folders())


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_told_before_the_fit(command, monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    sentence = command("train", *SYNTHETIC, f"logger={name}").sentence
    assert sentence == f"logger={name} needs the package {name}: pip install 'defectloc[{name}]'."
    assert not list(Path("outputs").glob("pill/fold0-*"))


def test_what_cannot_be_tracked(command, tmp_path):
    assert "holds no finished run" in command("track", "logger=csv").sentence
    assert "choose one of csv, tensorboard, mlflow" in command("track", "logger=none").sentence
    assert "belongs to logger=mlflow" in command("track", "logger=csv", "logger.uri=http://host.invalid").sentence
    assert (
        "logger.experiment belongs to logger=mlflow" in command("track", "logger=csv", "logger.experiment=a").sentence
    )
    assert "csv, mlflow, none, tensorboard" in command("track", "logger=wandb").sentence
    assert not list(tmp_path.rglob("*.db"))


def test_tensorboard(told):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = tracker_of(LoggerConfig(LoggerName.tensorboard), Path("outputs"))
    assert tracker.add(told)
    assert not tracker.add(told)
    folder = Path("outputs/.tracking/tensorboard/part/fold0-abc") / told.tags["localization"]
    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train_loss")] == [(1, 1.0)]
    (score,) = events.Scalars("balanced_accuracy")
    assert score.value == pytest.approx(told.scores["balanced_accuracy"])
    assert "hparam/balanced_accuracy" in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["figures/test.png"]
    assert (folder / "artifacts" / "report.html").is_file()
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["subset"] == "part"


@pytest.fixture
def client():
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from mlflow import MlflowClient

    return lambda: MlflowClient(f"sqlite:///{Path('outputs/.tracking/mlflow.db').absolute()}")


def found(client):
    experiment = client().get_experiment_by_name("defectloc")
    return client().search_runs([experiment.experiment_id])


def test_mlflow(told, client, tmp_path):
    tracker = tracker_of(LoggerConfig(LoggerName.mlflow), Path("outputs"))
    assert tracker.add(told)
    assert not tracker.add(told)
    (run,) = found(client)
    assert {key: run.data.tags[key] for key in told.tags} == told.tags
    assert run.info.run_name == f"part fold 0 {told.tags['localization']}"
    assert run.info.status == "FINISHED"
    assert run.data.params["localization.threshold"] == "0.8"
    assert run.data.metrics["balanced_accuracy"] == told.scores["balanced_accuracy"]
    assert [(each.step, each.value) for each in client().get_metric_history(run.info.run_id, "train_loss")] == [
        (1, 1.0)
    ]
    names = {each.path for folder in ("", "figures") for each in client().list_artifacts(run.info.run_id, folder)}
    assert names == {"figures", *told.artifacts}
    assert not (tmp_path / "mlruns").exists()
    # A figure that is made later joins the same run.
    write_image(told.artifacts["figures/test.png"].with_name("thresholds.png"))
    assert not tracker.add(tracked_run(told.artifacts["metrics.json"].parent))
    (same,) = found(client)
    assert same.info.run_id == run.info.run_id
    assert len(client().list_artifacts(run.info.run_id, "figures")) == 2
    # What a killed process has left is replaced.
    client().update_run(run.info.run_id, "RUNNING")
    assert tracker.add(told)
    (anew,) = found(client)
    assert (anew.info.status, anew.info.run_id == run.info.run_id) == ("FINISHED", False)


def test_files_lie_beside_a_database_that_was_named(told, client, tmp_path):
    (tmp_path / "shared").mkdir()
    for uri in ("sqlite:///shared/runs.db", f"sqlite:///{tmp_path}/shared/runs.db"):
        tracker = tracker_of(LoggerConfig(LoggerName.mlflow, uri, f"of {uri}"), Path("outputs"))
        assert tracker.add(told)
        assert not tracker.add(told)
    names = [path.name for path in (tmp_path / "shared" / "mlflow-artifacts").rglob("*") if path.is_file()]
    assert sorted(names) == sorted(2 * [Path(name).name for name in told.artifacts])
    assert not (tmp_path / "mlruns").exists()


def test_mlflow_of_a_run_that_was_fitted_again(told, client):
    """Its old scores would stand beside its new files."""
    tracker = tracker_of(LoggerConfig(LoggerName.mlflow), Path("outputs"))
    tracker.add(told)
    again = replace(told, scores=told.scores | {"auroc": 0.25})
    assert tracker.add(again)
    assert not tracker.add(again)
    (run,) = found(client)
    assert run.data.metrics["auroc"] == 0.25


def test_mlflow_of_a_sweep_and_of_runs_that_are_there(outputs, command, client):
    outcome = command("train", *SWEEP, "logger=mlflow")
    assert outcome.code == 0, outcome.err
    assert len(found(client)) == 4
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "logged: 2 runs, 4 before" in command("track").out
    assert "logged: 0 runs, 6 before" in command("track").out
    runs = found(client)
    assert len(runs) == 6
    assert {run.data.tags["fold"] for run in runs} == {"0", "1"}
    metrics = json.loads((last_localization(next(outputs.glob("pill/fold0-*"))) / "metrics.json").read_text())
    same = [run for run in runs if run.data.tags["localization"] == metrics["localization"]]
    assert metrics["balanced_accuracy"] in {run.data.metrics["balanced_accuracy"] for run in same}


def test_a_database_that_cannot_be_used_is_one_sentence(command, client):
    Path("other.db").write_text("no database " * 20)
    for uri, reason in (("sqlite:///other.db", "file is not a database"), ("mysql://somebody:secret@h/d", "MySQLdb")):
        outcome = command("train", *SYNTHETIC, "logger=mlflow", f"logger.uri={uri}")
        assert "cannot be used" in outcome.sentence
        assert reason in outcome.sentence
        assert "secret" not in outcome.err


def test_a_server_that_is_not_there_is_told_before_the_fit(command, client):
    uri = "http://somebody:secret@127.0.0.1:9"
    outcome = command("train", *SYNTHETIC, "logger=mlflow", f"logger.uri={uri}")
    assert "MLflow http://127.0.0.1:9, experiment defectloc cannot be used" in outcome.sentence
    assert "secret" not in outcome.err
    assert not list(Path("outputs").glob("pill/fold0-*"))
