"""Thousands of images: flat memory, and killed at random moments without losing or doubling one."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.narrow import COMMAND

pytestmark = pytest.mark.slow
N = int(os.environ.get("DEFECTLOC_MANY", "1200"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for number in range(N):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")
    return folder


def start(run: Path, photos: Path, *arguments: str) -> subprocess.Popen:
    given = (f"run={run}", f"images={photos}", "output=new", "threads=1", "overlays=false")
    command = [*COMMAND, "predict", *given, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows() -> int:
    table = Path("new/predictions.partial.csv")
    return table.read_bytes().count(b"\n") if table.exists() else 0


def resident(process: subprocess.Popen) -> tuple[int, int]:
    """Memory of a process in bytes, now and at its peak."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    now, peak = (int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process from /proc")
def test_memory_is_flat(fused, photos, capsys):
    process, seen = start(fused, photos), []
    while process.poll() is None:
        n = rows()
        if n > N // 5:
            try:
                seen.append((n, *resident(process)))
            except (FileNotFoundError, KeyError, ProcessLookupError):
                break
        time.sleep(0.1)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert len(pd.read_csv("new/predictions.csv")) == N
    early = np.median([memory for n, memory, _ in seen if n < N // 2])
    late = np.median([memory for n, memory, _ in seen if n >= N // 2])
    peak = max(each for *_, each in seen)
    with capsys.disabled():
        early_late = f"{early / 2**20:.1f} MiB early, {late / 2**20:.1f} MiB late, {peak / 2**20:.1f} MiB at its peak"
        print(f"\n{out.strip()}; memory {early_late}")
    assert late - early < 8 * 2**20


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_killed_five_times(fused, photos, kind, capsys):
    rng, table, killed = random.Random(0), Path(f"new/predictions.partial.{kind}"), []
    for number in range(5):
        process = start(fused, photos, "resume=true", f"format={kind}")
        # At a random moment of the work, not of the start.
        target = (number + rng.random()) * N / 6
        while process.poll() is None and not (table.exists() and table.read_bytes().count(b"\n") > target):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed.append(table.read_bytes().count(b"\n"))
    process = start(fused, photos, "resume=true", f"format={kind}")
    out, err = process.communicate()
    assert process.returncode == 0, err
    if kind == "csv":
        paths = pd.read_csv("new/predictions.csv")["path"]
        boxes = pd.read_csv("new/boxes.csv").groupby("path").size()
        counts = pd.read_csv("new/predictions.csv").set_index("path")["n_boxes"]
        np.testing.assert_array_equal(boxes.reindex(counts.index, fill_value=0), counts)
    else:
        paths = pd.read_json("new/predictions.jsonl", lines=True)["path"]
    assert list(paths) == [f"{number:06d}.png" for number in range(N)]
    with capsys.disabled():
        print(f"\nkilled after {killed} lines; {out.strip()}")
