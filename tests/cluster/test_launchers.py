"""The same sweep by each launcher of docs/cluster.md; with the extras `cluster` and `ray`, and a Slurm of one node."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.sweeps import command_line, metrics, sweep

SLURM = Path(__file__).with_name("slurm.sh")
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
RAY = ["hydra/launcher=ray", "hydra.launcher.ray.remote.num_cpus=1", "hydra.launcher.ray.remote.num_gpus=0"]
IN_SLURM = [
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=1",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def needs(plugin: str) -> None:
    """Skip a test without its launcher. To import it would mark it as loaded for Hydra, which looks for it itself."""
    if importlib.util.find_spec("hydra_plugins") is None or not importlib.util.find_spec(f"hydra_plugins.{plugin}"):
        pytest.skip(f"the package of {plugin} is not installed")


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in_turn")
    done = sweep(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_jobs_in_turn_end_with_the_table(in_turn):
    assert sorted(metrics(in_turn)) == [("pill", 0), ("pill", 1), ("tile", 0), ("tile", 1)]
    assert (in_turn / "out" / "summary.csv").is_file()


def test_started_again_it_skips_what_is_finished(in_turn):
    before = metrics(in_turn)
    again = sweep(in_turn)
    assert again.returncode == 0
    assert "skipped: 4 of 4 jobs are finished" in again.stderr
    assert "fold 0:" not in again.stderr
    assert metrics(in_turn) == before


@pytest.mark.parametrize(("plugin", "launcher"), [("hydra_joblib_launcher", JOBLIB), ("hydra_ray_launcher", RAY)])
def test_launchers_give_the_same_metrics(tmp_path, in_turn, plugin, launcher):
    needs(plugin)
    done = sweep(tmp_path, *launcher)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path) == metrics(in_turn)


@pytest.mark.parametrize(
    ("plugin", "launcher"),
    [
        ("hydra_joblib_launcher", JOBLIB),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]),
    ],
)
def test_a_job_that_fails_is_named_and_keeps_no_other_from_its_end(tmp_path, plugin, launcher):
    needs(plugin)
    done = sweep(tmp_path, *launcher, jobs=["subset=pill", "fold=0,7,1"])
    assert sorted(metrics(tmp_path)) == [("pill", 0), ("pill", 1)], done.stderr
    assert done.returncode == 2
    assert "1 of the jobs failed" in done.stderr
    assert "fold=7 is out of range" in done.stderr


def needs_slurm() -> None:
    needs("hydra_submitit_launcher")
    missing = [name for name in ("slurmctld", "slurmd", "munged") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a Slurm of one node needs root and Debian's slurm-wlm and munge; missing: {missing or 'root'}")


# Sends SIGTERM to the first job that has an epoch on the disk, or is further, and notes how often it was started again.
# A job that requeues itself at once makes scancel believe that its signal was lost. For a minute it would send it again
# to the next start of the job, too, so it is ended as soon as the job no longer runs.
DISTURB = """
"$@" & sweep=$!
until ls out/pill/fold0-*/.fit/last.ckpt > /dev/null 2>&1 || ls out/pill/fold0-*/model.ckpt > /dev/null 2>&1; do
    kill -0 $sweep || exit 1
    sleep 0.05
done
job=$(squeue --noheader --array --states=R --format=%i | sort | head -n 1)
scancel --signal=TERM "$job" & cancel=$!
for i in $(seq 600); do scontrol show job "$job" | grep -Eq 'JobState=(COMPLETING|PENDING)' && break; sleep 0.1; done
kill $cancel 2> /dev/null
for i in $(seq 600); do scontrol show job "$job" | grep -q 'Restarts=1' && break; sleep 0.2; done
wait $sweep && scontrol show job "$job" | grep -o 'Restarts=[0-9]*' > restarts
"""


def test_a_slurm_job_that_is_told_to_stop_is_requeued_and_ends_as_if_undisturbed(tmp_path, in_turn):
    needs_slurm()
    command = command_line(tmp_path, *IN_SLURM, "hydra.launcher.array_parallelism=1")
    done = subprocess.run(
        [str(SLURM), "bash", "-c", DISTURB, "disturb", *command],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "restarts").read_text(encoding="utf-8").strip() == "Restarts=1"
    logs = [path.read_text(encoding="utf-8") for path in (tmp_path / "out/.sweeps/.submitit").glob("*/*.err")]
    assert sum("SIGTERM: requeued" in log for log in logs) == 1
    assert metrics(tmp_path) == metrics(in_turn)
