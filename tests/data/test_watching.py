"""Files that a camera drops into a folder."""

import os
from types import SimpleNamespace

import pytest

from defectloc.data import watching
from defectloc.data.image_names import named_by
from defectloc.data.watching import Watcher


@pytest.fixture
def clock(monkeypatch):
    """A clock that only a test moves."""
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(watching.time, "monotonic", lambda: now.time)
    return now


@pytest.fixture
def done() -> set[str]:
    return set()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def watcher(folder, done) -> Watcher:
    return Watcher(named_by(str(folder)), 1.0, done.__contains__)


def test_a_file_that_grows_is_waited_for(folder, watcher, clock, done):
    path = folder / "1.png"
    for content in ("a", "ab", "abc"):
        path.write_text(content)
        assert list(watcher.settled()) == []
        clock.time += 0.9
    assert list(watcher.settled()) == []
    clock.time += 0.2
    assert list(watcher.settled()) == ["1.png"]
    assert watcher.is_unchanged("1.png")
    done.add("1.png")
    watcher.finish("1.png")
    clock.time += 5
    assert list(watcher.settled()) == []


def test_overlays_that_appear_are_not_waited_for(folder, watcher, clock):
    for name in ("1.png", "out/predict.json", "out/overlays/1.png.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a")
    assert list(watcher.settled()) == []
    clock.time += 1.5
    assert list(watcher.settled()) == ["1.png"]


def test_a_file_of_the_same_size_that_changes_is_waited_for(folder, watcher, clock):
    path = folder / "1.png"
    path.write_text("a")
    assert list(watcher.settled()) == []
    clock.time += 1.5
    os.utime(path, ns=(1, 1))
    assert list(watcher.settled()) == []


def test_what_could_not_be_read_is_given_again_once_it_changes(folder, watcher, clock):
    path = folder / "1.png"
    path.write_text("half")

    def later() -> list[str]:
        found = list(watcher.settled())
        clock.time += 1.5
        return found + list(watcher.settled())

    assert later() == ["1.png"]
    watcher.refuse("1.png")
    watcher.finish("1.png")
    assert watcher.n_refused == 1
    assert later() == []
    path.write_text("the whole")
    assert later() == ["1.png"]
    watcher.finish("1.png")
    assert watcher.n_refused == 0


def test_a_file_that_changes_while_it_is_read(folder, watcher, clock):
    (folder / "1.png").write_text("a")
    list(watcher.settled())
    clock.time += 2
    assert list(watcher.settled()) == ["1.png"]
    (folder / "1.png").write_text("ab")
    assert not watcher.is_unchanged("1.png")
    watcher.finish("1.png")
    list(watcher.settled())
    clock.time += 2
    assert list(watcher.settled()) == ["1.png"]


def test_files_that_are_gone_keep_no_place(folder, watcher, clock, monkeypatch):
    monkeypatch.setattr(watching, "MOST_WAITING", 2)
    for name in ("1", "2", "3"):
        (folder / f"{name}.png").write_text(name)
    list(watcher.settled())
    (folder / "1.png").unlink()
    (folder / "2.png").unlink()
    list(watcher.settled())
    list(watcher.settled())
    clock.time += 2
    assert list(watcher.settled()) == ["3.png"]
    assert watcher.state("1.png") is None


def test_in_order(folder, watcher, clock):
    for name in ("b/2.png", "a.png", "b/10.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    list(watcher.settled())
    clock.time += 2
    assert list(watcher.settled()) == ["a.png", "b/10.png", "b/2.png"]
