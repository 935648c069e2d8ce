"""The store keeps its limit, removes nothing that is being read, and stores nothing that follows from what it has."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from defectloc.features import eviction
from defectloc.features.store import FeatureStore

from .small_store import Trunk, catalog_of, fresh, store_at, view

# 'high' has 24 numbers of 4 bytes; header and note of a shard of 10 take about 1 kB.
IMAGES = 10


def filled(root: Path, name: str, used: float, limit_gb: float | None = None, n: int = IMAGES) -> FeatureStore:
    """A key of its own with one shard, last used at a time."""
    store = FeatureStore(root, {"dtype": "float32", "name": name}, limit_gb)
    store.ensure(catalog_of(n), ["high"], Trunk(), view)
    for entry in eviction.entries(store.folder):
        os.utime(entry.note, (used, used))
    return store


def names(root: Path) -> set[str]:
    return {holding.settings["name"] for holding in eviction.holdings(root)}


def size_of(root: Path) -> int:
    return sum(entry.bytes for folder in eviction.keys(root) for entry in eviction.entries(folder))


def test_the_least_recently_used_goes(tmp_path):
    for number, name in enumerate(("old", "older", "young")):
        filled(tmp_path, name, used=(2e9, 1e9, 3e9)[number])
    gc.collect()
    whole = size_of(tmp_path)
    assert eviction.shrink(tmp_path, whole) == whole
    assert eviction.shrink(tmp_path, whole - 1) == size_of(tmp_path) < whole
    assert names(tmp_path) == {"old", "young"}
    assert eviction.shrink(tmp_path, 0) == 0
    assert names(tmp_path) == set()


def test_reading_is_a_use(tmp_path):
    one = filled(tmp_path, "one", used=1e9)
    filled(tmp_path, "two", used=1.5e9)
    one.read(list(catalog_of(IMAGES)["digest"]), "high")
    eviction.shrink(tmp_path, size_of(tmp_path) - 1)
    assert names(tmp_path) == {"one"}


def test_finding_everything_there_is_a_use(tmp_path):
    one = filled(tmp_path, "one", used=1e9)
    filled(tmp_path, "two", used=1.5e9)
    assert one.ensure(catalog_of(IMAGES), ["high"], Trunk(), view) == 0
    eviction.shrink(tmp_path, size_of(tmp_path) - 1)
    assert names(tmp_path) == {"one"}


def test_a_new_key_pushes_the_oldest_out(tmp_path):
    for number in range(3):
        filled(tmp_path, f"{number}", used=1e9 + number)
    gc.collect()
    limit = size_of(tmp_path) / 1e9
    last = filled(tmp_path, "last", used=2e9, limit_gb=limit)
    assert names(tmp_path) == {"1", "2", "last"}
    assert size_of(tmp_path) <= limit * 1e9
    assert last.ensure(catalog_of(IMAGES), ["high"], Trunk(), view) == 0


def test_what_is_being_read_is_not_evicted(tmp_path):
    catalog = catalog_of(IMAGES)
    features = filled(tmp_path, "read", used=1e9).read(list(catalog["digest"]), "high")
    gc.collect()
    whole = size_of(tmp_path)
    assert eviction.shrink(tmp_path, 0) == whole
    np.testing.assert_array_equal(np.stack(list(features)), fresh(catalog, "high"))
    del features
    gc.collect()
    assert eviction.shrink(tmp_path, 0) == 0


# A process that reads one shard of the key that the test fills, and goes on when the test says so.
READER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from features.small_store import Trunk, catalog_of, numbers, view
from defectloc.features.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]), {"dtype": "float32", "name": "shared"})
some = catalog_of(200)[64:128]
assert store.ensure(some, ["high"], Trunk(), view) == 0
features = store.read(list(some["digest"]), "high")
del store
print("reads", flush=True)
for line in sys.stdin:
    print(float(numbers(features).sum()), flush=True)
"""


@pytest.fixture
def reader(tmp_path) -> Iterator[subprocess.Popen]:
    FeatureStore(tmp_path, {"dtype": "float32", "name": "shared"}).ensure(catalog_of(200), ["high"], Trunk(), view)
    command = [sys.executable, "-c", READER, str(tmp_path), str(Path(__file__).parents[1])]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "reads\n"
    yield child
    child.kill()
    child.communicate()


def test_what_another_process_reads_stays_until_it_is_killed(tmp_path, reader):
    gc.collect()
    assert eviction.shrink(tmp_path, 0) > 0
    (entry,) = [entry for folder in eviction.keys(tmp_path) for entry in eviction.entries(folder)]
    print("again", file=reader.stdin, flush=True)
    expected = fresh(catalog_of(200)[64:128], "high").sum()
    np.testing.assert_allclose(float(reader.stdout.readline()), expected, rtol=1e-4)
    assert eviction.remove([entry]) == 0
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    assert eviction.shrink(tmp_path, 0) == 0
    assert not list(tmp_path.glob("*/.claim-*"))


def test_other_images_of_the_same_key_are_evicted(tmp_path):
    """All subsets of a data set have one key."""
    key = {"dtype": "float32", "name": "shared"}
    catalog = catalog_of(256)
    FeatureStore(tmp_path, key).ensure(catalog[:128], ["high"], Trunk(), view)
    gc.collect()
    limit = size_of(tmp_path)
    store = FeatureStore(tmp_path, key, limit / 1e9)
    assert store.ensure(catalog[128:], ["high"], Trunk(), view) == 128
    assert size_of(tmp_path) <= limit
    assert store.ensure(catalog[128:], ["high"], Trunk(), view) == 0
    assert FeatureStore(tmp_path, key).ensure(catalog[:128], ["high"], Trunk(), view) == 128


def test_the_limit_holds_while_a_key_is_computed(tmp_path):
    key, catalog = {"dtype": "float32", "name": "shared"}, catalog_of(640)
    FeatureStore(tmp_path, key).ensure(catalog[:320], ["high"], Trunk(), view)
    gc.collect()
    limit, sizes = size_of(tmp_path), []

    class Watching(Trunk):
        def __call__(self, inputs, levels):
            sizes.append(size_of(tmp_path))
            return super().__call__(inputs, levels)

    FeatureStore(tmp_path, key, limit / 1e9).ensure(catalog[320:], ["high"], Watching(), view)
    assert max(sizes) <= limit


def test_what_this_process_reads_is_not_evicted_but_told(tmp_path, capsys):
    catalog = catalog_of(200)
    store = FeatureStore(tmp_path, {"dtype": "float32", "name": "large"}, limit_gb=1e-6)
    store.ensure(catalog, ["high"], Trunk(), view)
    assert "features.limit_gb=1e-06" in capsys.readouterr().err
    assert names(tmp_path) == {"large"}
    np.testing.assert_array_equal(np.stack(list(store.read(list(catalog["digest"]), "high"))), fresh(catalog, "high"))


def test_what_a_process_is_computing_is_left_alone(tmp_path):
    """Its lock need not be asked for: what it has written is claimed."""

    class Evicting(Trunk):
        def __call__(self, inputs, levels):
            eviction.shrink(tmp_path, 0)
            return super().__call__(inputs, levels)

    store = FeatureStore(tmp_path, {"dtype": "float32", "name": "busy"})
    store.ensure(catalog_of(200), ["high"], Evicting(), view)
    assert len(eviction.entries(store.folder)) == 4


def test_a_store_that_cannot_be_written_is_read_and_left_alone(tmp_path, monkeypatch):
    store = filled(tmp_path, "shared", used=1e9)
    catalog = catalog_of(IMAGES)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr("os.utime", refuse)
    reading = FeatureStore(tmp_path, store.key, limit_gb=1e-9)
    assert reading.ensure(catalog, ["high"], Trunk(), view) == 0
    assert len(list(reading.read(list(catalog["digest"]), "high"))) == IMAGES
    assert eviction.shrink(tmp_path, 0) == size_of(tmp_path) > 0


def test_a_damaged_shard_leaves_nothing_behind_when_its_images_are_stored_under_another_name(tmp_path):
    store_at(tmp_path).ensure(catalog_of(100), ["high"], Trunk(), view)
    for victim in tmp_path.glob("*/*.npy"):
        victim.write_bytes(victim.read_bytes()[:-1])
    store_at(tmp_path).ensure(catalog_of(100).iloc[::-1], ["high"], Trunk(), view)
    stored = [entry for folder in eviction.keys(tmp_path) for entry in eviction.entries(folder)]
    assert len(stored) == 2
    assert eviction.holdings(tmp_path)[0].n_images == 100
