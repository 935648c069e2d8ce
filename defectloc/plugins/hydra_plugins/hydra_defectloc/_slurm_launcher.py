"""Jobs of a sweep as one Slurm array, each of which is requeued when it is asked to stop."""

import getpass
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import OmegaConf

from defectloc.errors import DefectlocError
from defectloc.signals import Preempted

_POLL_SECONDS = 3.0
# A result may be seen on this machine some time after the job has left the queue.
_LOST_AFTER_POLLS = 10


class SlurmLauncher(BaseSubmititLauncher):
    """The plugin's launcher, but a lost job is one failed job, `sacct` is not needed, and SIGTERM requeues."""

    _EXECUTOR = "slurm"

    def __call__(self, *arguments: Any) -> JobReturn:
        """Run one job inside Slurm; one that is asked to stop has itself requeued and ends with the exit code 75."""
        try:
            return super().__call__(*arguments)
        except Preempted as stop:
            restarts, most = int(os.environ.get("SLURM_RESTART_COUNT", "0")), self.params["max_num_timeout"]
            if restarts >= most:
                error = DefectlocError(
                    f"stopped by {stop.signal_name} after {restarts} restarts; raise hydra.launcher.timeout_min, or "
                    f"hydra.launcher.max_num_timeout={most}."
                )
                return _failed(arguments[0], error)
            print(f"{stop.signal_name}: requeued", file=sys.stderr, flush=True)
            subprocess.run(["scontrol", "requeue", _own_job()], check=True)
            raise

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit all jobs as one array, and wait for them; what dies without a result becomes a failed job."""
        assert self.config is not None
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        arguments = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        jobs = self._executor().map_array(self, *zip(*arguments, strict=True))
        lost = _wait(jobs)
        return [_result(job, list(overrides), lost) for job, overrides in zip(jobs, job_overrides, strict=True)]

    def _executor(self) -> Any:
        # It takes a second to import, and Hydra imports its plugins at each start.
        submitit = importlib.import_module("submitit")
        own = {"submitit_folder", "max_num_timeout"}
        shared = set(OmegaConf.structured(BaseQueueConf))
        executor = submitit.AutoExecutor(
            self.params["submitit_folder"], cluster="slurm", slurm_max_num_timeout=self.params["max_num_timeout"]
        )
        parameters = {key: value for key, value in self.params.items() if key not in own}
        executor.update_parameters(
            **{key if key in shared else f"slurm_{key}": value for key, value in parameters.items()}
        )
        return executor


def _own_job() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def _wait(jobs: Sequence[Any]) -> set[str]:
    """Wait until every job has a result or has left the queue without one; gives the numbers of the latter."""
    missed = {job.job_id: 0 for job in jobs}
    while True:
        waiting = {job.job_id for job in jobs if not job.paths.result_pickle.exists()}
        lost = {number for number in waiting if missed[number] >= _LOST_AFTER_POLLS}
        if waiting == lost:
            return lost
        queued = _queued()
        if queued is not None:
            for number in waiting:
                missed[number] = 0 if number in queued else missed[number] + 1
        time.sleep(_POLL_SECONDS)


def _queued() -> set[str] | None:
    """List the jobs of this user in the queue, by number; None where the queue does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(done.stdout.split()) if done.returncode == 0 else None


def _result(job: Any, overrides: list[str], lost: set[str]) -> JobReturn:
    if job.job_id in lost:
        return _failed(overrides, DefectlocError(f"Slurm's job {job.job_id} died; {job.paths.stderr} may say why."))
    try:
        return job.results()[0]
    # One class of submitit for whatever ended the job outside of Hydra.
    except Exception as error:
        return _failed(overrides, error)


def _failed(overrides: list[str], error: Exception) -> JobReturn:
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)
