"""A sweep around any of Hydra's launchers: finished jobs are skipped, failed ones are listed at the end."""

import copy
import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, flag_override
from omegaconf.errors import OmegaConfBaseException

from defectloc.config import LoggerName, SummarizeSettings
from defectloc.errors import DefectlocError, SweepError
from defectloc.files import read_json
from defectloc.runs import summarizing
from defectloc.runs.directory import LOCALIZATION, METRICS
from defectloc.runs.sweeping.finished import Identities, is_finished, localization_of


class Sweep(Launcher):
    """Hands the jobs of a sweep to a launcher that is set up already."""

    def __init__(
        self, launcher: Launcher, context: HydraContext, config: DictConfig, typed: Callable[[DictConfig], Any]
    ) -> None:
        """`typed`: turns the composed configuration of a job into its settings."""
        self._launcher, self._context, self._config, self._typed = launcher, context, config, typed
        self._identities = Identities()
        self._failures: list[tuple[str, Exception]] = []
        self._jobs: dict[tuple[str, ...], tuple[Any, Path]] = {}

    def setup(self, **_: Any) -> None:
        """Hydra's hook."""

    @property
    def _fits(self) -> bool:
        """Tell whether the jobs are fits; those of other commands are short, and start again."""
        return self._config.hydra.job.name == "train"

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Start what is not finished, again and again as long as a pool of processes breaks but gets on."""
        returns: list[JobReturn] = [JobReturn(list(o), status=JobStatus.COMPLETED) for o in job_overrides]
        waiting = self._unfinished(job_overrides, range(len(job_overrides)))
        finished = [number for number in range(len(returns)) if number not in waiting]
        waiting = sorted([*waiting, *self._superseded(job_overrides, finished)])
        if len(waiting) < len(returns):
            print(f"skipped: {len(returns) - len(waiting)} of {len(returns)} jobs are finished", file=sys.stderr)
        skipped = [job_overrides[number] for number in range(len(returns)) if number not in waiting]
        while waiting:
            try:
                made = self._launcher.launch([job_overrides[number] for number in waiting], initial_job_idx)
            # Each launcher has its own error for a process of its pool that died.
            except Exception as error:
                left = self._unfinished(job_overrides, waiting)
                if len(left) == len(waiting):
                    raise
                print(f"note: {type(error).__name__}; {len(left)} jobs are started again", file=sys.stderr)
                waiting = left
                continue
            for number, each in zip(waiting, made, strict=True):
                if each.status == JobStatus.FAILED:
                    self._failures.append((" ".join(filter_overrides(job_overrides[number])), each._return_value))
                else:
                    returns[number] = each
            break
        self._log(skipped)
        return returns

    def end(self) -> None:
        """Print the table of `summarize`; raises SweepError where jobs have failed."""
        outputs = Path(str(self._config.outputs)).expanduser()
        if self._fits and any(outputs.glob(f"*/fold*-*/{LOCALIZATION}/*/{METRICS}")):
            summarizing.run(SummarizeSettings(outputs=str(outputs)))
        if self._failures:
            raise SweepError(self._failures)

    def _unfinished(self, job_overrides: Sequence[Sequence[str]], numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if not (self._fits and self._is_finished(job_overrides[number]))]

    def _is_finished(self, overrides: Sequence[str]) -> bool:
        try:
            settings, folder = self._composed(overrides)
            return is_finished(folder, self._identities.of(settings))
        # The job says it, when it is started.
        except (DefectlocError, OmegaConfBaseException):
            return False

    def _superseded(self, job_overrides: Sequence[Sequence[str]], numbers: Iterable[int]) -> list[int]:
        """Find the last finished job of each run, where `train` was asked for something else of the run since.

        Started again, it finds its results, and `predict` and others take them again.
        """
        last = {}
        for number in numbers:
            made = localization_of(self._composed(job_overrides[number])[1])
            last[made.parent.parent] = (number, made.name)
        asked = {run: (read_json(run / METRICS) or {}).get("localization") for run in last}
        return [number for run, (number, name) in last.items() if asked[run] != name]

    def _composed(self, overrides: Sequence[str]) -> tuple[Any, Path]:
        """Give settings and folder of a job, composed once, since that takes its time."""
        key = tuple(overrides)
        if key not in self._jobs:
            self._jobs[key] = self._compose(overrides)
        return self._jobs[key]

    def _compose(self, overrides: Sequence[str]) -> tuple[Any, Path]:
        composed = copy.deepcopy(self._context.config_loader.load_sweep_config(self._config, list(overrides)))
        folder = Path(str(composed.hydra.sweep.dir)) / str(composed.hydra.sweep.subdir)
        with flag_override(composed, ["readonly", "struct"], [False, False]):
            del composed["hydra"]
        return self._typed(composed), folder

    def _log(self, jobs: Iterable[Sequence[str]]) -> None:
        """Log jobs that are not started to their tracker, which may have been lost since they did so themselves."""
        logged = defaultdict(list)
        for overrides in jobs:
            settings, folder = self._composed(overrides)
            if settings.logger.name != LoggerName.none:
                key = (settings.outputs, *asdict(settings.logger).items())
                logged[key].append((settings.logger, localization_of(folder)))
        for (outputs, *_), runs in logged.items():
            # Late, since it loads torch, which a sweep that only hands out jobs does without.
            add_finished = importlib.import_module("defectloc.runs.tracking.command").add_finished
            try:
                add_finished(runs[0][0], Path(outputs).expanduser(), [folder for _, folder in runs])
            except DefectlocError as error:
                # The jobs themselves are finished.
                print(f"note: {len(runs)} finished jobs were not logged: {error}", file=sys.stderr)
