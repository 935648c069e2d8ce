"""Sweeps whose jobs run beside one another, as docs/cluster.md tells; with the extra `cluster`."""

import json
import subprocess
import sys

import pytest

DATA = ["data=synthetic", "subset=pill", "data.n_good=30", "data.n_test_good=5", "data.n_per_type=6"]
FIT = ["data.image_size=64", "training.epochs=1", "model.weights=none", "figures=false", "threads=1", "device=cpu"]


def sweep(folder, *overrides):
    command = [sys.executable, "-m", "defectloc.train", "-m", *DATA, *FIT, f"outputs={folder / 'out'}", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "launcher"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]),
    ],
)
def test_jobs_beside_one_another_fit_their_folds(tmp_path, plugin, launcher):
    pytest.importorskip(f"hydra_plugins.{plugin}")
    done = sweep(tmp_path, *launcher, "fold=0,7,1")
    runs = sorted((tmp_path / "out" / "pill").glob("fold*/metrics.json"))
    assert [json.loads(path.read_text(encoding="utf-8"))["fold"] for path in runs] == [0, 1], done.stderr
    # The job that fails is named, and does not keep the others from their end.
    assert done.returncode == 2
    assert "fold=7 is out of range" in done.stderr
