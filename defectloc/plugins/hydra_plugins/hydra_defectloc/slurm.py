"""The launcher of Slurm jobs. Hydra imports this file whenever a command starts, so it imports next to nothing."""

import importlib.util

if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is not None:
    from hydra_plugins.hydra_defectloc._slurm_launcher import SlurmLauncher

    # Hydra knows a plugin by the name of the module that it looks for it in.
    SlurmLauncher.__module__ = __name__
