"""Features are read in any order, again and again, with few files open, as they are stored or derived from others."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.features import eviction, open_files
from defectloc.features.store import FeatureStore

from .small_store import Trunk, catalog_of, fresh, numbers, settle, shards, store_at, view


@pytest.fixture
def allow_handles():
    """Let this process open some files more than it has open."""
    resource = pytest.importorskip("resource")
    if not Path("/proc/self/fd").exists():
        pytest.skip("the open files of a process are listed on Linux only")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(n):
        used = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + n, before[1]))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_twenty_thousand_images_need_few_handles(tmp_path, allow_handles):
    catalog = catalog_of(20_000)
    allow_handles(open_files.MAX_OPEN + 40)

    def small(path):
        return np.full(24, int(Path(path).stem), np.float32)

    store = store_at(tmp_path)
    assert store.ensure(catalog, ["high", "low"], Trunk(), small, batch_size=64) == 20_000
    assert len(shards(tmp_path)) == 2 * 313
    # From a shard to the next and back: two passes, each over more shards than are held open.
    features = [store.read(list(catalog["digest"]), level) for level in ("high", "low")]
    for start in (0, 1, 0):
        for index in range(start, 20_000, 32):
            assert features[0][index][0, 0, 0] == -index
            assert features[1][index][0, 0, 0] == index


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_without_a_handle_there_is_a_sentence_and_nothing_is_removed(tmp_path, monkeypatch, code):
    catalog = catalog_of(20)
    store = store_at(tmp_path)
    store.ensure(catalog, ["high"], Trunk(), view)
    found = store.read(list(catalog["digest"]), "high")

    def refuse(path, file):
        # As mmap does, without a name.
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(open_files, "_identity", refuse)
        with pytest.raises(DefectlocError, match=r"high-.*\.npy cannot be opened, .* raise the limit"):
            found[0]
        with pytest.raises(DefectlocError, match=r"high-.*\.npy cannot be opened, .* raise the limit"):
            store.ensure(catalog, ["high"], Trunk(), view)
    assert store.ensure(catalog, ["high"], Trunk(), view) == 0
    np.testing.assert_array_equal(numbers(found), fresh(catalog, "high"))


def test_features_can_be_read_again_and_again_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files, "MAX_OPEN", 2)
    catalog = catalog_of(400)
    store = store_at(tmp_path)
    store.ensure(catalog, ["high", "low"], Trunk(), view)
    high, low = (store.read(list(catalog["digest"]), level) for level in ("high", "low"))
    del store
    for _ in range(2):
        for one, other in zip(high, low, strict=True):
            assert np.isfinite(one).all()
            assert np.isfinite(other).all()
    order = np.random.default_rng(0).permutation(400)
    np.testing.assert_array_equal(np.stack([high[i] for i in order]), fresh(catalog, "high")[order])
    np.testing.assert_array_equal(numbers(low), fresh(catalog, "low"))


@pytest.mark.parametrize("damage", ["gone", "cut", "other bytes"])
def test_what_is_removed_or_damaged_by_hand_while_it_is_read_ends_in_a_sentence(tmp_path, damage, monkeypatch):
    monkeypatch.setattr(open_files, "MAX_OPEN", 1)
    catalog = catalog_of(200)
    store = store_at(tmp_path)
    store.ensure(catalog, ["high"], Trunk(), view)
    settle(tmp_path)
    found = store.read(list(catalog["digest"]), "high")
    assert len(numbers(found)) == 200
    for victim in shards(tmp_path):
        content = victim.read_bytes()
        victim.unlink()
        if damage != "gone":
            victim.write_bytes(content[:-8] + (b"" if damage == "cut" else b"\1" * 8))
    with pytest.raises(DefectlocError, match="was removed or damaged while it was in use"):
        numbers(found)
    assert store_at(tmp_path).ensure(catalog, ["high"], Trunk(), view) == 200


def pool(values: np.ndarray) -> np.ndarray:
    n, channels, height, width = values.shape
    return values.reshape(n, channels, height // 2, 2, width // 2, 2).max((3, 5))


class Pooling(Trunk):
    """Its level 'pooled' is the maximum of each 2 x 2 cells of 'low'."""

    def __call__(self, inputs, levels):
        found = super().__call__(inputs, ["low"])
        self.levels[-1] = tuple(levels)
        values = {"low": found["low"], "pooled": pool(found["low"])}
        return {level: values[level] for level in levels}


def pooling_store(root: Path) -> FeatureStore:
    return FeatureStore(root, {"dtype": "float16"}, derive={"pooled": ("low", pool)})


@pytest.mark.parametrize("order", [["low", "pooled"], ["pooled", "low"], ["both"]])
def test_a_level_that_follows_from_another_is_not_stored_twice(tmp_path, order):
    catalog, trunk = catalog_of(70), Pooling()
    for level in order:
        levels = ["pooled", "low"] if level == "both" else [level]
        pooling_store(tmp_path).ensure(catalog, levels, trunk, view)
    store = pooling_store(tmp_path)
    assert store.ensure(catalog, ["low", "pooled"], trunk, view) == 0
    assert {entry.level for entry in eviction.entries(store.folder)} == {"low"}
    assert trunk.images == (140 if order[0] == "pooled" else 70)
    found = np.stack(list(store.read(list(catalog["digest"]), "pooled")))
    expected = Pooling()([view(path) for path in catalog["path"]], ["pooled"])["pooled"].astype(np.float16)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected)


def test_a_level_is_derived_in_several_steps(tmp_path):
    store = FeatureStore(tmp_path, {"dtype": "float16"}, derive={"pooled": ("low", pool), "twice": ("pooled", pool)})
    catalog = catalog_of(5)
    assert store.ensure(catalog, ["low", "pooled", "twice"], Pooling(), view) == 5
    assert {entry.level for entry in eviction.entries(store.folder)} == {"low"}
    np.testing.assert_array_equal(
        np.stack(list(store.read(list(catalog["digest"]), "twice")))[:, :, 0, 0],
        np.stack(list(store.read(list(catalog["digest"]), "low"))).max((2, 3)),
    )


def test_a_derivable_level_that_is_being_read_is_not_removed(tmp_path):
    catalog = catalog_of(20)
    before = pooling_store(tmp_path)
    before.ensure(catalog, ["pooled"], Pooling(), view)
    found = before.read(list(catalog["digest"]), "pooled")
    expected = np.stack(list(found))
    pooling_store(tmp_path).ensure(catalog, ["low"], Pooling(), view)
    np.testing.assert_array_equal(np.stack(list(found)), expected)
