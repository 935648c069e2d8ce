"""The last few results of something slow."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from defectloc.data.recent import Recent


def test_a_key_is_made_once_while_it_is_among_the_last():
    made = []
    recent = Recent(lambda key: made.append(key) or key.upper(), 2)
    assert [recent(key) for key in "aabab"] == list("AABAB")
    assert made == ["a", "b"]
    recent("c")
    # `a` was asked for before `b`.
    recent("b")
    recent("a")
    assert made == ["a", "b", "c", "a"]


def test_threads_that_ask_together_wait_for_one_result():
    begun, made = threading.Barrier(4), []

    def make(key):
        made.append(key)
        return object()

    recent = Recent(make, 1)

    def ask():
        begun.wait(timeout=10)
        return recent("a")

    with ThreadPoolExecutor(4) as pool:
        found = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert made == ["a"]
    assert len(set(map(id, found))) == 1


def test_an_error_is_raised_for_each_asker():
    def fail(key):
        raise ValueError(key)

    recent = Recent(fail, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="a"):
            recent("a")
