"""The peak memory of a process is its own."""

import sys

import numpy as np
import pytest

from defectloc.benchmarks.processes import in_new_process, peak_bytes

HELD = 300 * 10**6


def hold(n_bytes: int) -> int:
    """Touch so much memory; to be called in another process."""
    return int(np.ones(n_bytes, np.uint8).sum())


def test_the_peak_grows_by_what_was_held():
    (small, least), (large, most) = in_new_process(hold, 1), in_new_process(hold, HELD)
    assert (small, large) == (1, HELD)
    assert most - least == pytest.approx(HELD, rel=0.1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux hands the peak on")
def test_the_memory_of_the_starting_process_does_not_count():
    held = np.ones(2 * HELD, np.uint8)
    assert peak_bytes() > held.nbytes
    assert in_new_process(hold, 1)[1] < held.nbytes
