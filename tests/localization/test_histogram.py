"""Bins over float32 values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectloc.localization.histogram import N_BINS, add_counts, bins_of, highest_of, lowest_of

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FLOATS, FLOATS)
def test_bins_are_in_the_order_of_the_values(a: float, b: float) -> None:
    first, second = bins_of([a, b])
    assert 0 <= first < N_BINS
    if a <= b:
        assert first <= second


@given(FLOATS)
def test_a_bin_holds_its_lowest_value_and_no_other_below(value: float) -> None:
    at = bins_of(value)
    lowest = lowest_of(at)
    assert lowest <= np.float32(value)
    assert bins_of(lowest) == at
    # Below the lowest of all floats lies minus infinity.
    with np.errstate(over="ignore"):
        below = np.nextafter(lowest, np.float32(-np.inf))
    # Zero is a bin's lowest value twice, as 0 and as -0.
    assert bins_of(below) < at


def test_bins_are_narrow() -> None:
    values = np.float32(10) ** np.arange(-30, 30)
    for each in (values, -values):
        width = lowest_of(bins_of(each) + 1) - lowest_of(bins_of(each))
        assert (width <= np.abs(each) / 2**13).all()
    assert bins_of(-0.0) == bins_of(0.0)


def test_counts_and_weights() -> None:
    counts, weighted, common = np.zeros(N_BINS, np.int64), np.zeros(N_BINS), np.zeros(N_BINS)
    values = np.array([[1.0, 3], [-2, 1]])
    add_counts(counts, values)
    add_counts(weighted, values, np.array([0.1, 0.2, 0.3, 0.4]))
    add_counts(common, values, 0.25)
    add_counts(counts, [])
    at = bins_of([-2.0, 1, 3])
    assert counts[at].tolist() == [1, 2, 1]
    assert weighted[at] == pytest.approx([0.3, 0.5, 0.2])
    assert common[at] == pytest.approx([0.25, 0.5, 0.25])
    assert counts.sum() == 4


def test_pieces_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    values, weights = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    whole, pieces = np.zeros((2, N_BINS))
    add_counts(whole, values, weights)
    monkeypatch.setattr("defectloc.localization.histogram._PIECE", 7)
    add_counts(pieces, values, weights)
    np.testing.assert_allclose(whole, pieces)


def test_a_value_lies_between_the_lowest_and_the_highest_of_its_bin():
    values = np.random.default_rng(0).normal(0, 1e3, 1000).astype(np.float32)
    bins = bins_of(values)
    assert (lowest_of(bins) <= values).all()
    assert (values <= highest_of(bins)).all()
    np.testing.assert_array_equal(bins_of(highest_of(bins)), bins)
    np.testing.assert_array_equal(bins_of(np.nextafter(highest_of(bins), np.float32(np.inf))), bins + 1)
