"""Photographs decoded ahead."""

import threading

import pytest

from defectloc.data.image_names import named_by
from defectloc.data.watching import Watcher
from defectloc.inference import reading
from defectloc.inference.reading import Read, batches, read, read_ahead, watched
from tests.conftest import write_image


def test_batches_are_lazy():
    def names():
        yield from "abc"
        pytest.fail("read too far")

    assert next(batches(names(), 3)) == list("abc")
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_order_is_kept_and_no_more_than_one_batch_is_ahead():
    asked = []

    def reader(name: str) -> Read:
        asked.append(name)
        return Read(name, None, "")

    found = read_ahead(batches("abcdefgh", 2), reader)
    assert [each.name for each in next(found)] == ["a", "b"]
    assert set(asked) <= set("abcd")
    assert [[each.name for each in batch] for batch in found] == [["c", "d"], ["e", "f"], ["g", "h"]]


def test_what_cannot_be_read_has_a_sentence(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    names = named_by(str(tmp_path))
    whole, damaged, gone, odd = (read(names, name) for name in ("a.png", "b.png", "c.png", "\udcff.png"))
    assert whole.image is not None
    assert whole.image.shape == (40, 40, 3)
    assert "b.png" in damaged.error
    assert "does not exist" in gone.error
    assert "UTF-8" in odd.error
    assert damaged.image is gone.image is odd.image is None


def test_each_look_ends_with_an_empty_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PAUSE", 0)
    (tmp_path / "a.png").write_text("x")
    stop, done = threading.Event(), set()
    looks = watched(Watcher(named_by(str(tmp_path)), 0, done.__contains__), 2, stop)
    assert next(looks) == []
    assert next(looks) == ["a.png"]
    done.add("a.png")
    assert next(looks) == []
    stop.set()
    assert list(looks) == []
