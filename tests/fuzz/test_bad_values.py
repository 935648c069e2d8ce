"""Each key gets bad values, the same for the same seed."""

from collections import Counter
from dataclasses import dataclass, field

from omegaconf import MISSING

from .bad_values import VALUES, bad_values, keys


@dataclass
class Inner:
    names: list[str] = field(default_factory=list)
    size: int | None = None


@dataclass
class Outer:
    subset: str = MISSING
    inner: Inner = field(default_factory=Inner)
    free: dict[str, int] = field(default_factory=dict)


def test_keys_are_leaves_with_dots():
    assert keys(Outer) == ["free", "inner.names", "inner.size", "subset"]


def test_each_key_comes_once_before_any_comes_twice():
    chosen = bad_values(Outer, 0, 4 * 30)
    assert chosen == bad_values(Outer, 0, 4 * 30)
    assert chosen != bad_values(Outer, 1, 4 * 30)
    names = [override.partition("=")[0] for override in chosen]
    assert set(Counter(names).values()) == {30}
    assert sorted(names[:4]) == keys(Outer)
    assert {override.partition("=")[2] for override in chosen} <= set(VALUES)
    assert len({override.partition("=")[2] for override in chosen}) > 20
