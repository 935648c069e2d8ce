"""A folder into which a camera drops files while `predict` follows it."""

import io
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import write_image

SETTLE = 0.4


@pytest.fixture
def folder() -> Path:
    Path("photos").mkdir()
    return Path("photos")


@pytest.fixture
def watch(run, command):
    """Follow the folder while `camera` works in a thread; it ends with a signal once it returns."""

    def start(camera, number=signal.SIGTERM, *arguments):
        failures = []

        def work() -> None:
            try:
                camera()
            except Exception as error:
                failures.append(error)
            finally:
                signal.raise_signal(number)

        thread = threading.Thread(target=work)
        thread.start()
        given = ("images=photos", "output=new", "threads=1", "watch=true", "overlays=false", f"settle={SETTLE}")
        outcome = command("predict", f"run={run.folder}", *given, *arguments)
        thread.join()
        assert not failures
        return outcome

    return start


def wait_for(n: int) -> None:
    """Wait until the growing table has so many rows."""
    table, end = Path("new/predictions.partial.csv"), time.monotonic() + 60
    while not table.exists() or table.read_text().count("\n") < n + 1:
        assert time.monotonic() < end, "the camera waited in vain"
        time.sleep(0.05)


def encoded(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_files_are_read_once_they_are_whole(watch, folder, number):
    write_image(folder / "0.png", seed=0)

    def camera() -> None:
        wait_for(1)
        content = encoded(1)
        with (folder / "1.png").open("wb") as file:
            for start in range(0, len(content), len(content) // 6):
                file.write(content[start : start + len(content) // 6])
                file.flush()
                time.sleep(SETTLE / 3)
        write_image(folder / "2.png", seed=2)
        wait_for(3)

    outcome = watch(camera, number)
    assert outcome.code == 0, outcome.err
    assert "skipped" not in outcome.err
    assert sorted(pd.read_csv("new/predictions.csv")["path"]) == ["0.png", "1.png", "2.png"]
    assert "3 images: " in outcome.out


def test_a_file_whose_writing_paused_is_read_again(watch, folder):
    content = encoded(1)

    def camera() -> None:
        (folder / "1.png").write_bytes(content[: len(content) // 2])
        write_image(folder / "2.png", seed=2)
        wait_for(1)
        (folder / "1.png").write_bytes(content)
        wait_for(2)

    outcome = watch(camera)
    assert outcome.code == 0, outcome.err
    assert "1.png" in outcome.err
    assert "it is read again once it changes" in outcome.err
    assert list(pd.read_csv("new/predictions.csv")["path"]) == ["2.png", "1.png"]


def test_a_stop_loses_nothing(watch, folder):
    def first() -> None:
        for number in range(3):
            write_image(folder / f"{number}.png", seed=number)
        wait_for(3)
        write_image(folder / "3.png", seed=3)

    assert watch(first).code == 0

    def second() -> None:
        wait_for(4)

    outcome = watch(second, signal.SIGTERM, "resume=true")
    assert outcome.code == 0, outcome.err
    assert list(pd.read_csv("new/predictions.csv")["path"]) == [f"{number}.png" for number in range(4)]


def test_only_a_folder_can_be_watched(command, run):
    write_image(Path("a.png"))
    sentence = command("predict", f"run={run.folder}", "images=a.png", "output=new", "watch=true").sentence
    assert "watch=true follows a folder" in sentence
    assert not Path("new").exists()
