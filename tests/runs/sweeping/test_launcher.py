"""A sweep started again: what is finished is skipped, what has changed since is not."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from defectloc.config import DataConfig, Source, TrainSettings
from defectloc.launchers import threads_of_job
from defectloc.runs.sweeping.finished import Identities
from defectloc.signals import REQUEUE
from tests.conftest import SMALL, SYNTHETIC, two_folders

SWEEP = ["train", "-m", "data=folder", "subset=part", "data.root=photos", "n_folds=2", "fold=0,1", *SMALL]


@pytest.fixture
def swept(command):
    two_folders(Path("photos"))
    outcome = command(*SWEEP)
    assert outcome.code == 0, outcome.err
    return outcome


def images() -> list[Path]:
    return sorted(path for path in Path("photos").rglob("*") if path.is_file())


def test_sweep_ends_with_the_table_and_skips_what_is_finished(command, swept):
    assert "mean ± sd over folds" in swept.out
    again = command(*SWEEP)
    assert "skipped: 2 of 2 jobs are finished" in again.err
    assert "mean ± sd over folds" in again.out
    assert "part fold 0" not in again.err


def test_a_job_of_other_settings_is_not_skipped(command, swept):
    again = command(*SWEEP, "decision.threshold_from=fixed")
    assert "skipped" not in again.err
    assert "part fold 0" in again.err


def test_a_sweep_that_is_asked_for_again_is_what_its_runs_show(command, swept):
    (run,) = Path("outputs").glob("part/fold1-*")
    first = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["localization"]
    one = [*(each for each in SWEEP if not each.startswith("fold")), "fold=1"]
    twice = [*one, "localization.threshold=0.5,0.6"]
    assert command(*twice).code == 0
    # Of several jobs of one run the last is what it shows.
    assert "skipped: 2 of 2 jobs are finished" in command(*twice).err
    again = command(*SWEEP)
    assert (again.code, "skipped: 1 of 2 jobs are finished" in again.err) == (0, True)
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["localization"] == first
    assert "skipped: 2 of 2 jobs are finished" in command(*SWEEP).err


def test_a_job_whose_images_have_changed_is_not_skipped(command, swept):
    images()[0].write_bytes(images()[1].read_bytes())
    assert "skipped" not in command(*SWEEP).err


def test_a_job_whose_results_were_damaged_is_not_skipped(command, swept):
    damaged = next(Path("outputs").glob("part/fold1-*/localization/*/metrics.json"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = command(*SWEEP)
    assert "skipped: 1 of 2 jobs are finished" in again.err
    assert json.loads(damaged.read_text(encoding="utf-8"))["fold"] == 1


def test_threads_are_shared_between_jobs_beside_one_another():
    assert threads_of_job(OmegaConf.create({"cpus_per_task": 6})) == 6
    assert threads_of_job(OmegaConf.create({"ray": {"remote": {"num_cpus": 0.5}}})) == 1
    assert threads_of_job(OmegaConf.create({"n_jobs": -1})) == 1
    assert threads_of_job(OmegaConf.create({"_target_": "hydra.BasicLauncher"})) is None


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "cluster"), ("submitit_slurm", "slurm"), ("ray", "ray")])
def test_a_launcher_whose_package_is_missing_names_the_extra(command, monkeypatch, launcher, extra):
    found = importlib.util.find_spec
    missing = ("hydra_joblib_launcher", "hydra_submitit_launcher", "hydra_ray_launcher")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name.endswith(missing) else found(name, *rest)
    )
    outcome = command("train", "-m", *SYNTHETIC, f"hydra/launcher={launcher}")
    assert outcome.sentence == f"this launcher needs a package: pip install 'defectloc[{extra}]'."


@pytest.mark.slow
def test_a_sweep_in_turn_that_is_told_to_stop_goes_on_with_the_same_command(tmp_path):
    """As a job of Kubernetes or Slurm does that is started again after the exit code for it."""
    command = [sys.executable, "-m", "defectloc.train", "-m", *SYNTHETIC, "fold=0,1", "training.epochs=10"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while not list(Path("outputs").glob("pill/fold0-*/.fit/last.ckpt")):
        assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    said = child.stderr.read()
    assert child.wait() == REQUEUE
    assert "stopping at the end of this epoch" in said
    assert "start the same command again" in said
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(list(Path("outputs").glob("pill/fold*/metrics.json"))) == 2


def test_annotations_that_were_corrected_in_their_folder_make_a_job_unfinished(tmp_path):
    boxes = tmp_path / "boxes"
    (boxes / "labels").mkdir(parents=True)
    (boxes / "labels" / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    photos = two_folders(tmp_path / "photos")
    data = DataConfig(name=Source.folder, root=str(photos), annotations=str(boxes))
    settings = TrainSettings(subset="part", outputs=str(tmp_path / "outputs"), data=data)
    before = Identities().of(settings)
    assert Identities().of(settings) == before
    (boxes / "labels" / "1.txt").write_text("0 0.4 0.5 0.5 0.5\n")
    assert Identities().of(settings) != before
