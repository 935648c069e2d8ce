"""Names that have been seen."""

import numpy as np
import pytest

from defectloc.inference import name_index
from defectloc.inference.name_index import NameIndex


@pytest.mark.parametrize("recent", [1, 7, 1000])
def test_as_a_set_of_texts(monkeypatch, recent):
    monkeypatch.setattr(name_index, "RECENT", recent)
    index, known, random = NameIndex(), set(), np.random.default_rng(0)
    for number in random.integers(0, 300, 600):
        name = f"{number}.png"
        assert (name in index) == (name in known)
        assert index.add(name) == (name not in known)
        known.add(name)
    assert all(name in index for name in known)
    assert "\udcff.png" not in index


def test_digests_that_end_in_zeros(monkeypatch):
    monkeypatch.setattr(name_index, "RECENT", 1)
    monkeypatch.setattr(name_index, "_digest", lambda name: name.encode().ljust(16, b"\0"))
    index = NameIndex()
    assert index.add("a")
    assert "a" in index
    assert not index.add("a")
    assert "b" not in index
