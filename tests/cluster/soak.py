"""SIGKILL to a random job of a running sweep, again and again; after the restart everything must be there, once.

    python -m tests.cluster.soak --rounds 5 --kills 4

Each round runs a sweep of four jobs, in turn or by joblib, kills one process that is at work at random progress, and
starts the sweep again, as often as it is to be killed. It then compares the metrics with those of an undisturbed sweep,
and counts the epochs and shards that were written: what was written once is never computed again.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.cluster.sweeps import JOBS, command_line, metrics, sweep

EPOCHS = 4
# The shortest jobs; `--whole` adds memory bank, patch head and fused maps.
SHORT = ["localization=cam", "localization.threshold=1"]
LAUNCHERS = {"in turn": [], "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}


class Written(threading.Thread):
    """Counts the checkpoints of epochs and the shards of features that appear in a folder, by name and content."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.epochs, self.shards = folder, Counter(), Counter()
        self._seen, self._ended = set(), threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.01):
            self.look()

    def look(self) -> None:
        for pattern, counter in (("*/fold*/.fit/last.ckpt", self.epochs), (".features/*/*.npy", self.shards)):
            for path in self.folder.glob(pattern):
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                version = (str(path), found.st_ino, found.st_mtime_ns)
                if version not in self._seen and not path.name.startswith("."):
                    self._seen.add(version)
                    counter[str(path.relative_to(self.folder))] += 1

    def progress(self) -> int:
        finished = len(list(self.folder.glob("*/fold*/metrics.json")))
        return sum(self.epochs.values()) + sum(self.shards.values()) + finished

    def end(self) -> None:
        self._ended.set()
        self.join()
        self.look()


def processes_at_work(parent: int) -> list[int]:
    """The process itself and those below it that run jobs."""
    found = [parent]
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
        # It has ended.
        except OSError:
            continue
        if int(fields[1]) == parent and b"popen_loky" in command:
            found.append(int(path.name))
    return found[1:] or found


def one_round(folder: Path, launcher: str, fit: list[str], kills: int, draw: random.Random, expected: dict) -> dict:
    """Kill one process of a sweep at random progress, start it again, kill it again, and describe what was found."""
    command = command_line(folder, *fit, *LAUNCHERS[launcher])
    environment, out = os.environ | {"OMP_NUM_THREADS": "1"}, folder / "out"
    written = Written(out)
    written.start()
    killed: list[int] = []
    # Epochs of all jobs, a shard of features for each subset, the metrics of each job.
    targets = sorted(draw.sample(range(len(expected) * (EPOCHS + 1) + 1), kills))
    codes: list[int] = []
    while (not codes or codes[-1] != 0) and len(codes) <= kills + 3:
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while targets and child.poll() is None:
            if written.progress() < targets[0] or not list(out.glob(".sweeps/multirun.yaml")):
                time.sleep(0.02)
                continue
            targets.pop(0)
            # What comes between two things that are written is as likely as they are.
            time.sleep(draw.uniform(0, 3))
            if child.poll() is None:
                killed.append(written.progress())
                os.kill(draw.choice(processes_at_work(child.pid)), signal.SIGKILL)
                # A pool is started again by the sweep itself, which may then be killed again.
                time.sleep(1)
        codes.append(child.wait())
    written.end()
    return {
        "launcher": launcher,
        "killed_at": killed,
        "of": len(expected) * (EPOCHS + 1) + 2,
        "starts": len(codes),
        "ended": codes[-1] == 0,
        "equal": metrics(folder) == expected,
        "epochs_written": sum(written.epochs.values()),
        "most_epochs_of_a_fit": max(written.epochs.values(), default=0),
        "most_writes_of_a_shard": max(written.shards.values(), default=0),
        "left_over": sorted(str(path.relative_to(out)) for path in out.glob("*/fold*/.fit")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true")
    given = parser.parse_args()
    fit = [f"training.epochs={EPOCHS}", *([] if given.whole else SHORT)]
    draw, kills, wrong = random.Random(given.seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        reference = Path(name) / "reference"
        reference.mkdir()
        started = time.monotonic()
        done = sweep(reference, *fit)
        seconds = time.monotonic() - started
        assert done.returncode == 0, done.stderr
        expected = metrics(reference)
        print(json.dumps({"jobs": JOBS, "epochs": EPOCHS, "seconds_undisturbed": round(seconds, 1)}), flush=True)
        for number in range(given.rounds):
            folder = Path(name) / f"round{number}"
            folder.mkdir()
            launcher = list(LAUNCHERS)[number % len(LAUNCHERS)]
            found = one_round(folder, launcher, fit, given.kills, draw, expected)
            kills += len(found["killed_at"])
            print(json.dumps({"round": number} | found), flush=True)
            sound = found["ended"] and found["equal"] and not found["left_over"]
            wrong += not (sound and found["most_epochs_of_a_fit"] <= EPOCHS and found["most_writes_of_a_shard"] <= 1)
            subprocess.run(["rm", "-rf", str(folder)], check=True)
    print(f"{given.rounds} rounds, {kills} kills, {wrong} rounds with something lost, wrong or done twice", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
