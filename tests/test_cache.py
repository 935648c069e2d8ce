"""What the store holds is listed, and removed by key, age or size."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from defectloc.features import eviction
from defectloc.features.store import FeatureStore

CATALOG = pd.DataFrame({"path": [f"{i}" for i in range(5)], "digest": [f"{i:064x}" for i in range(5)]})
NOW = 2_000_000_000.0


def fill(backbone: str, used: float, level: str = "pool4") -> str:
    key = {"dtype": "float32", "backbone": backbone, "image_size": 64, "cut": "conv5_1", "view": "plain"}
    store = FeatureStore(Path("outputs/.features"), key)
    store.ensure(CATALOG, [level], lambda batch, levels: {level: np.stack(batch)}, lambda _: np.zeros((2, 3, 3)))
    for entry in eviction.entries(store.folder):
        os.utime(entry.note, (used, used))
    return store.folder.name


@pytest.fixture
def keys(monkeypatch) -> dict[str, str]:
    """Two keys, one of them not used for a year."""
    monkeypatch.setattr("time.time", lambda: NOW)
    return {"old": fill("vgg16", NOW - 365 * 86400), "new": fill("resnet50", NOW - 3600)}


def left() -> set[str]:
    return {holding.key for holding in eviction.holdings(Path("outputs/.features"))}


def test_listing_says_what_was_computed_and_how_much_it_takes(command, keys):
    outcome = command("cache")
    assert outcome.code == 0, outcome.err
    row = next(line for line in outcome.out.splitlines() if keys["old"] in line)
    for text in ("vgg16", " 64 ", "conv5_1", "pool4", "plain", "float32", " 5 ", "365.0"):
        assert text in row
    assert left() == set(keys.values())


def test_prune_all(command, keys):
    before = sum(path.stat().st_size for path in Path("outputs/.features").glob("*/*-*"))
    outcome = command("cache", "prune=true")
    assert f"removed {before / 1e6:.1f} MB" in outcome.out
    assert left() == set()
    assert not list(Path("outputs/.features").glob("*/*.npy"))


def test_prune_by_the_start_of_a_key(command, keys):
    assert command("cache", "prune=true", f"key={keys['new'][:5]}").code == 0
    assert left() == {keys["old"]}


def test_prune_by_age(command, keys):
    assert command("cache", "prune=true", "unused_days=30").code == 0
    assert left() == {keys["new"]}


def test_prune_to_a_size(command, keys):
    whole = sum(holding.bytes for holding in eviction.holdings(Path("outputs/.features")))
    assert command("cache", "prune=true", f"limit_gb={(whole - 1) / 1e9:.9f}").code == 0
    assert left() == {keys["new"]}


def test_a_pruned_key_can_be_filled_again(command, keys):
    assert command("cache", "prune=true").code == 0
    assert fill("vgg16", NOW) == keys["old"]
    assert left() == {keys["old"]}


def test_an_empty_store_is_no_error(command):
    outcome = command("cache", "prune=true")
    assert outcome.code == 0
    assert "nothing is stored" in outcome.out
    assert not Path("outputs").exists()


def test_bad_input(command, keys):
    assert "key=12e4" in command("cache", "key=12e4").sentence
    assert "must not be negative" in command("cache", "unused_days=-1").sentence
    assert "limit_gb" in command("cache", "prune=true", "limit_gb=1", "key=1").sentence
    assert left() == set(keys.values())
