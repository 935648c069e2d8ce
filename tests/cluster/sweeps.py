"""A sweep of seconds for each job: two subsets, two folds, and what it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

DATA = ["data=synthetic", "data.n_good=30", "data.n_test_good=5", "data.n_per_type=6", "data.synthetic_size=64"]
FIT = [
    "data.image_size=32",
    "model.weights=none",
    "training.epochs=2",
    "training.target_train_accuracy=1.1",
    "patch_head.steps=12",
    "figures=false",
    "threads=1",
    "device=cpu",
]
JOBS = ["subset=pill,tile", "fold=0,1"]


def command_line(folder: Path, *overrides: str, jobs: list[str] | None = None) -> list[str]:
    """The command of a sweep whose results lie in `folder/out`."""
    typed = [*DATA, *FIT, *(JOBS if jobs is None else jobs), f"outputs={folder / 'out'}"]
    return [sys.executable, "-m", "defectloc.train", "-m", *typed, f"data.root={folder / 'data'}", *overrides]


def sweep(folder: Path, *overrides: str, jobs: list[str] | None = None, before: tuple[str, ...] = ()):
    """Run a sweep to its end; `before`: what its command is an argument of."""
    command = [*before, *command_line(folder, *overrides, jobs=jobs)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def metrics(folder: Path) -> dict[tuple[str, int], dict]:
    """The metrics of all runs by subset and fold, without the time that they took."""
    found = {}
    for path in sorted((folder / "out").glob("*/fold*/metrics.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["seconds"]
        # of a file that holds the seconds, too
        content.pop("checksum", None)
        found[content["subset"], content["fold"]] = content
    return found
