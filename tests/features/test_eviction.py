"""The store stays below its limit, lets nobody down who reads, and stores nothing that follows from what it has."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from test_store import Trunk, catalog_of, fresh, store_at, view

from defectloc.features import eviction
from defectloc.features.store import FeatureStore
from defectloc.files import lock

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
    return {holding["settings"]["name"] for holding in eviction.holdings(root)}


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


def test_what_is_being_read_stays_readable(tmp_path):
    """Another process may remove the files; here the same one does, as another one would."""
    catalog = catalog_of(IMAGES)
    features = filled(tmp_path, "read", used=1e9).read(list(catalog["digest"]), "high")
    gc.collect()
    eviction.shrink(tmp_path, 0)
    assert names(tmp_path) == set()
    np.testing.assert_array_equal(np.stack(list(features)), fresh(catalog, "high"))


def test_what_this_process_reads_is_not_evicted_but_told(tmp_path, capsys):
    catalog = catalog_of(200)
    store = FeatureStore(tmp_path, {"dtype": "float32", "name": "large"}, limit_gb=1e-6)
    store.ensure(catalog, ["high"], Trunk(), view)
    assert "features.limit_gb=1e-06" in capsys.readouterr().err
    assert names(tmp_path) == {"large"}
    np.testing.assert_array_equal(np.stack(list(store.read(list(catalog["digest"]), "high"))), fresh(catalog, "high"))


def test_a_key_that_another_process_computes_is_left_alone(tmp_path):
    busy = filled(tmp_path, "busy", used=1e9).folder
    filled(tmp_path, "idle", used=2e9)
    gc.collect()
    with lock(busy / ".lock", "the test"):
        assert eviction.shrink(tmp_path, 0) > 0
    assert names(tmp_path) == {"busy"}


def test_a_damaged_shard_leaves_nothing_behind_when_its_images_are_stored_under_another_name(tmp_path):
    store_at(tmp_path).ensure(catalog_of(100), ["high"], Trunk(), view)
    for victim in tmp_path.glob("*/*.npy"):
        victim.write_bytes(victim.read_bytes()[:-1])
    store_at(tmp_path).ensure(catalog_of(100).iloc[::-1], ["high"], Trunk(), view)
    stored = [entry for folder in eviction.keys(tmp_path) for entry in eviction.entries(folder)]
    assert len(stored) == 2
    assert eviction.holdings(tmp_path)[0]["images"] == 100


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


def test_the_pools_of_a_trunk_follow_from_what_is_before_them():
    import torch

    from defectloc.model.classifier import Classifier
    from defectloc.model.levels import derivable

    classifier = Classifier("vgg16", "conv5_1", "oxford").eval()
    found = derivable(classifier)
    sources = {name: source for name, (source, _) in found.items()}
    assert sources == {"pool1": "conv1_2", "pool2": "conv2_2", "pool3": "conv3_3", "pool4": "conv4_3"}
    with torch.inference_mode():
        values = classifier.levels(torch.rand(2, 3, 32, 32) * 255, ["conv4_3", "pool4"])
    before = values["conv4_3"].numpy().astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found["pool4"][1](before), values["pool4"].numpy().astype(np.float16))
    assert derivable(Classifier("resnet50", "layer4", "torchvision")) == {}
