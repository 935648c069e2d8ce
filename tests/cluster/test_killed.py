"""SIGKILL among processes that share what they compute."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from defectloc.data.synthetic.generation import generate
from tests.cluster.sweeps import FIT, metrics, sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Several shards of 64 images.
DATA = ["data=synthetic", "data.n_good=300", "data.n_test_good=20", "data.n_per_type=20", "data.synthetic_size=64"]
N_IMAGES = 300 + 20 + 4 * 20
OVERRIDES = [*DATA, *FIT, "data.image_size=64", "training.epochs=1", "localization=cam", "localization.threshold=1"]


def stored(folder: Path) -> dict[str, int]:
    """How often each image is stored, by digest."""
    counts: dict[str, int] = {}
    # Not those that are being written, whose names begin with a dot.
    for note in folder.glob("out/.features/*/[!.]*.json"):
        for digest in json.loads(note.read_text(encoding="utf-8")).get("digests", []):
            counts[digest] = counts.get(digest, 0) + 1
    return counts


def test_four_processes_on_one_subset_one_of_them_killed_while_it_computes_the_features(tmp_path):
    generate(tmp_path / "data", "pill", n_good=300, n_test_good=20, n_per_type=20, size=64)
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    for folder in (together, alone):
        (folder / "data").symlink_to(tmp_path / "data")
    children, notes = [], []
    for fold in range(4):
        typed = [f"fold={fold}", "subset=pill", f"outputs={together / 'out'}", f"data.root={together / 'data'}"]
        notes.append(together / f"{fold}.err")
        with notes[-1].open("w", encoding="utf-8") as file:
            command = [sys.executable, "-m", "defectloc.train", *OVERRIDES, *typed]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            child = subprocess.Popen(command, cwd=together, env=environment, stdout=subprocess.DEVNULL, stderr=file)
        children.append((child, command))

    def at_work() -> list[int]:
        said = [note.read_text(encoding="utf-8") for note in notes]
        return [fold for fold in range(4) if "busy with computing features" not in said[fold]]

    while len(at_work()) > 1 or not stored(together):
        assert all(child.poll() is None for child, _ in children), "the features were computed too fast to kill"
        time.sleep(0.02)
    (killed,) = at_work()
    before = stored(together)
    children[killed][0].send_signal(signal.SIGKILL)
    assert 0 < len(before) < N_IMAGES
    codes = [child.wait() for child, _ in children]
    assert codes == [-signal.SIGKILL if fold == killed else 0 for fold in range(4)]
    again = subprocess.run(children[killed][1], cwd=together, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr

    # What the killed one had stored was not computed again.
    assert before.items() <= stored(together).items()
    assert set(stored(together).values()) == {1}
    assert len(stored(together)) == N_IMAGES
    done = sweep(alone, *OVERRIDES, jobs=["subset=pill", "fold=0,1,2,3"])
    assert done.returncode == 0, done.stderr
    assert metrics(together) == metrics(alone)


def test_soak_of_one_round():
    """More of them are in docs/cluster.md."""
    command = [sys.executable, "-m", "tests.cluster.soak", "--rounds", "1", "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rounds, 2 kills, 0 rounds with" in done.stdout
