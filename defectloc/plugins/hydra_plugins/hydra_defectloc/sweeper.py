"""The sweeper of every command. Hydra imports this file whenever a command starts, so it imports next to nothing."""

import importlib
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from defectloc import launchers


class ResumingSweeper(BasicSweeper):
    """Hydra's own sweeper, but what is finished is skipped, and a job that fails keeps no other from its start."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook; raises DefectlocError for a launcher whose package is not installed."""
        launchers.require(config.hydra.launcher)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        # Not at the top: one that is started without -m needs neither pandas nor the images.
        launcher, checks = (
            importlib.import_module(f"defectloc.{name}") for name in ("runs.sweeping.launcher", "checks")
        )
        self.launcher = launcher.Sweep(self.launcher, hydra_context, config, checks.typed)

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs; raises SweepError at the end if some have failed."""
        returns = super().sweep(arguments)
        self.launcher.end()  # type: ignore[union-attr]
        return returns
