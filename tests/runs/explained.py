"""Settings and a run for the tests of `defectloc explain`."""

import shutil
from pathlib import Path

from defectloc.runs.directory import Run

# Of everything that an explanation repeats.
FEW = [
    "threads=1",
    "device=cpu",
    "attribution.steps=2",
    "attribution.smooth_samples=2",
    "attribution.expected_samples=2",
    "attribution.background=1",
    "attribution.window=0.5",
    "attribution.lime_samples=6",
    "attribution.n_superpixels=6",
    "attribution.shap_evaluations=6",
    "attribution.rise_masks=6",
    "attribution.score_channels=3",
]


def copied(finished: Path, folder: Path) -> Run:
    """Copy fold 0 of the finished runs into a folder where a test may write."""
    return Run.open(shutil.copytree(next(finished.glob("pill/fold0-*")), folder / "run"))
