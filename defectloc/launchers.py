"""What the jobs of a sweep take from the launcher that starts them."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from defectloc.errors import DefectlocError

# What Hydra warns of: the launchers of conf/hydra/launcher have the names of those that the plugins bring, which they
# are meant to replace.
REPLACED = r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema"
# What stands in a launcher's class, and the extra and the package that it needs.
_PACKAGES = {
    ("JoblibLauncher", "cluster"): "hydra_plugins.hydra_joblib_launcher",
    ("SlurmLauncher", "slurm"): "hydra_plugins.hydra_submitit_launcher",
    ("RayLauncher", "ray"): "hydra_plugins.hydra_ray_launcher",
}
_IN_THIS_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def make_plugins_known() -> None:
    """Let Hydra find our plugins in a checkout that is not installed; an installation has them beside this package."""
    folder = Path(__file__).parent / "plugins"
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))


def require(launcher: DictConfig) -> None:
    """Raise DefectlocError where a launcher's package is not installed."""
    for (word, extra), package in _PACKAGES.items():
        if word in str(launcher.get("_target_")) and importlib.util.find_spec(package) is None:
            raise DefectlocError(f"this launcher needs a package: pip install 'defectloc[{extra}]'.")


def threads_of_job(launcher: DictConfig) -> int | None:
    """Give a job's share of the processor, so that jobs beside one another do not fight; None: all of it."""
    jobs: Any = launcher.get("n_jobs")
    if jobs is not None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // jobs) if jobs > 0 else 1
    remote = (launcher.get("ray") or {}).get("remote") or {}
    cores_of_job = launcher.get("cpus_per_task") or remote.get("num_cpus")
    return None if cores_of_job is None else max(1, int(cores_of_job))


def is_process_of_its_own(launcher: DictConfig) -> bool:
    """Tell whether a job may end its process without ending others: not in turn, nor in a pool of processes."""
    return str(launcher.get("_target_")).endswith("SlurmLauncher")


def is_in_turn(launcher: DictConfig) -> bool:
    """Tell whether jobs run one after the other in the process of the sweep."""
    return launcher.get("_target_") == _IN_THIS_PROCESS
