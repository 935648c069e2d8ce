"""Features are computed once, whoever asks, whoever is killed; and computed again when their bytes have changed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.features import open_files

from .small_store import Trunk, catalog_of, fresh, numbers, settle, shards, store_at, view


def test_stored_equals_fresh(tmp_path):
    catalog, trunk = catalog_of(150), Trunk()
    assert store_at(tmp_path).ensure(catalog, ["high"], trunk, view, batch_size=7) == 150
    found = store_at(tmp_path).read(list(catalog["digest"]), "high")
    assert len(found) == 150
    assert found[0].dtype == np.float32
    np.testing.assert_array_equal(np.stack([found[i] for i in range(150)]), fresh(catalog, "high"))


def test_float16_rounds_and_does_not_overflow(tmp_path):
    catalog = catalog_of(3)
    store = store_at(tmp_path, "float16")

    def large(inputs, levels):
        return {"high": Trunk()(inputs, ["high"])["high"] * 1000}

    store.ensure(catalog, ["high"], large, view)
    found = store.read(list(catalog["digest"]), "high")
    expected = np.clip(fresh(catalog, "high") * 1000, -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(np.stack([found[i] for i in range(3)]), expected)
    assert np.isfinite(found[0]).all()


def test_order_of_reading_is_free(tmp_path):
    catalog = catalog_of(70)
    store = store_at(tmp_path)
    store.ensure(catalog, ["high"], Trunk(), view)
    order = np.random.default_rng(0).permutation(70)
    found = store.read(list(catalog["digest"].iloc[order]), "high")
    np.testing.assert_array_equal(np.stack(list(found)), fresh(catalog, "high")[order])
    with pytest.raises(KeyError):
        store.read(["unknown"], "high")


def test_nothing_is_computed_twice(tmp_path):
    trunk = Trunk()
    assert store_at(tmp_path).ensure(catalog_of(10), ["high", "low"], trunk, view) == 10
    assert store_at(tmp_path).ensure(catalog_of(10), ["low"], trunk, view) == 0
    assert store_at(tmp_path).ensure(catalog_of(10), ["high", "low"], trunk, view) == 0
    assert trunk.images == 10
    assert trunk.calls == 2
    assert store_at(tmp_path).ensure(catalog_of(15), ["high"], trunk, view) == 5
    assert trunk.images == 15
    for level in ("high", "low"):
        found = store_at(tmp_path).read(list(catalog_of(10)["digest"]), level)
        np.testing.assert_array_equal(np.stack(list(found)), fresh(catalog_of(10), level))


def test_same_bytes_under_two_names_are_computed_once(tmp_path):
    catalog, trunk = catalog_of(4), Trunk()
    catalog.loc[3, "digest"] = catalog.loc[0, "digest"]
    assert store_at(tmp_path).ensure(catalog, ["high"], trunk, view) == 3
    assert len(store_at(tmp_path).read(list(catalog["digest"]), "high")) == 4


def test_other_key_is_another_store(tmp_path):
    trunk = Trunk()
    for dtype in ("float16", "float32"):
        store_at(tmp_path, dtype).ensure(catalog_of(3), ["high"], trunk, view)
    assert trunk.images == 6


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone", "note cut", "note gone", "note of another"])
def test_damaged_shard_is_computed_again(tmp_path, damage):
    catalog = catalog_of(100)
    store_at(tmp_path).ensure(catalog, ["high"], Trunk(), view)
    victim, note = shards(tmp_path)[0], shards(tmp_path, ".json")[0]
    content = victim.read_bytes()
    if damage == "flip":
        victim.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "gone":
        victim.unlink()
    elif damage == "note gone":
        note.unlink()
    elif damage == "note cut":
        note.write_bytes(note.read_bytes()[:50])
    elif damage == "note of another":
        note.write_bytes(shards(tmp_path, ".json")[1].read_bytes())
    else:
        victim.write_bytes(content[:-1] if damage == "cut" else b"")
    trunk = Trunk()
    assert 0 < store_at(tmp_path).ensure(catalog, ["high"], trunk, view) < 100
    found = store_at(tmp_path).read(list(catalog["digest"]), "high")
    np.testing.assert_array_equal(np.stack(list(found)), fresh(catalog, "high"))


def test_remains_of_a_killed_writer_are_removed(tmp_path):
    store_at(tmp_path).ensure(catalog_of(3), ["high"], Trunk(), view)
    (whole,) = shards(tmp_path)
    remains = [whole.with_name(name) for name in ("high-0123.npy", ".high-0123-abc.npy", ".high-0123-abc.json")]
    for path in remains:
        path.write_bytes(b"half")
    store_at(tmp_path).ensure(catalog_of(4), ["high"], Trunk(), view)
    assert not any(path.exists() for path in remains)
    assert whole.exists()


def test_unreadable_image_leaves_nothing(tmp_path):
    def broken(path):
        raise DefectlocError(f"{path} is damaged")

    with pytest.raises(DefectlocError, match=r"000\.png is damaged"):
        store_at(tmp_path / "store").ensure(catalog_of(3), ["high"], Trunk(), broken)
    assert not (tmp_path / "store").exists()


def test_decoding_runs_ahead_but_not_without_bound(tmp_path):
    """An image that is decoded and not yet computed takes memory."""
    decoded = 0

    def counting(path):
        nonlocal decoded
        decoded += 1
        return view(path)

    class Watching(Trunk):
        most = 0

        def __call__(self, inputs, levels):
            found = super().__call__(inputs, levels)
            self.most = max(self.most, decoded - self.images)
            return found

    trunk = Watching()
    store_at(tmp_path).ensure(catalog_of(400), ["high"], trunk, counting)
    assert trunk.most <= 100


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the shards whose bytes are verified, one for each time."""
    names, original = [], open_files.hashlib.file_digest

    def counting(file, algorithm):
        # Not the temporary files of a writer.
        if not Path(file.name).name.startswith("."):
            names.append(Path(file.name).name)
        return original(file, algorithm)

    monkeypatch.setattr("hashlib.file_digest", counting)
    return names


def test_only_the_shards_of_the_images_asked_for_are_opened(tmp_path, hashed):
    catalog = catalog_of(640)
    for start in range(0, 640, 64):
        store_at(tmp_path).ensure(catalog[start : start + 64], ["high", "low"], Trunk(), view)
    assert len(shards(tmp_path)) == 20
    settle(tmp_path)
    hashed.clear()
    some = catalog[100:150]
    store = store_at(tmp_path)
    assert store.ensure(some, ["high"], Trunk(), view) == 0
    np.testing.assert_array_equal(numbers(store.read(list(some["digest"]), "high")), fresh(some, "high"))
    assert len(hashed) == 2
    assert all(name.startswith("high-") for name in hashed)


def test_a_shard_is_verified_once_per_process(tmp_path, hashed):
    catalog = catalog_of(200)
    store_at(tmp_path).ensure(catalog, ["high", "low"], Trunk(), view)
    settle(tmp_path)
    hashed.clear()
    for _ in range(3):
        store = store_at(tmp_path)
        for level in ("high", "low"):
            assert store.ensure(catalog, [level], Trunk(), view) == 0
            assert len(numbers(store.read(list(catalog["digest"]), level))) == 200
    assert sorted(hashed) == [path.name for path in shards(tmp_path)]


def test_a_byte_flipped_after_the_shard_was_verified_is_detected(tmp_path):
    catalog, trunk = catalog_of(20), Trunk()
    store = store_at(tmp_path)
    store.ensure(catalog, ["high"], trunk, view)
    settle(tmp_path)
    assert store.ensure(catalog, ["high"], trunk, view) == 0
    (victim,) = shards(tmp_path)
    content = victim.read_bytes()
    victim.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert store.ensure(catalog, ["high"], trunk, view) == 20
    np.testing.assert_array_equal(numbers(store.read(list(catalog["digest"]), "high")), fresh(catalog, "high"))


def test_a_damaged_description_of_the_key_is_written_again(tmp_path):
    store = store_at(tmp_path)
    store.ensure(catalog_of(3), ["high"], Trunk(), view)
    (store.folder / "key.json").write_bytes(b"")
    store.ensure(catalog_of(4), ["high"], Trunk(), view)
    assert json.loads((store.folder / "key.json").read_text()) == store.key


# A process that computes the features of 20 images below `sys.argv[1]`; each image that goes through the trunk leaves
# a mark, and the first process in the trunk waits at a gate until the test opens it.
CHILD = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from features.small_store import Trunk, catalog_of, store_at, view
root = Path(sys.argv[1])
class Slow(Trunk):
    def __call__(self, inputs, levels):
        (root / f"inside-{os.getpid()}").touch()
        while not (root / "gate").exists():
            time.sleep(0.005)
        with open(root / "passed", "a") as file:
            file.write("image\\n" * len(inputs))
        return super().__call__(inputs, levels)
store_at(root / "store").ensure(catalog_of(20), ["high"], Slow(), view)
"""


def start(root: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(Path(__file__).parents[1])], stderr=subprocess.PIPE, text=True
    )


def until(condition, *children) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert all(child.poll() is None for child in children), "a process ended early"
        assert time.monotonic() < end, "the processes wait for each other"
        time.sleep(0.005)


def pid_inside(root: Path) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in root.glob("inside-*")}


@pytest.mark.parametrize("killed", [False, True])
def test_of_four_processes_one_computes_even_if_the_first_is_killed(tmp_path, killed):
    children = [start(tmp_path) for _ in range(4)]
    until(lambda: pid_inside(tmp_path), *children)
    (first,) = pid_inside(tmp_path)
    others = [child for child in children if child.pid != first]
    said = [child.stderr.readline() for child in others]
    assert all("waiting" in line for line in said)
    assert len(pid_inside(tmp_path)) == 1
    if killed:
        os.kill(first, signal.SIGKILL)
        until(lambda: len(pid_inside(tmp_path)) == 2, *others)
    (tmp_path / "gate").touch()
    for child in children:
        assert child.wait() == (-signal.SIGKILL if killed and child.pid == first else 0)
        child.stderr.close()
    assert (tmp_path / "passed").read_text().count("image") == 20
    found = store_at(tmp_path / "store").read(list(catalog_of(20)["digest"]), "high")
    np.testing.assert_array_equal(np.stack(list(found)), fresh(catalog_of(20), "high"))
