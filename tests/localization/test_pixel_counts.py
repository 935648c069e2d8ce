import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.localization.pixel_counts import PixelCounts

MAP = np.float32([[-1, 0, 0, 2], [2, 2, 3, -1]])
MASK = np.array([[0, 0, 1, 1], [0, 1, 1, 0]])


def test_counts_by_hand() -> None:
    counts = PixelCounts()
    counts.add(MAP, MASK)
    low, high, normal, defect = counts.table()
    assert low.tolist() == high.tolist() == [-1, 0, 2, 3]
    assert normal.tolist() == [2, 1, 1, 0]
    assert defect.tolist() == [0, 1, 2, 1]
    assert (counts.n_maps, counts.n_pixels) == (1, 8)


def test_bins_give_the_same_counts_within_their_width() -> None:
    counts = PixelCounts(exact_pixels=10)
    for _ in range(3):
        counts.add(MAP, MASK)
    low, high, normal, defect = counts.table()
    for value, first, last in zip([-1, 0, 2, 3], low, high, strict=True):
        assert first <= value <= last
        assert last - first <= max(abs(value) * 2**-13, 1e-30)
    assert normal.tolist() == [6, 3, 3, 0]
    assert defect.tolist() == [0, 3, 6, 3]


def test_memory_is_bounded_however_many_maps_come() -> None:
    counts = PixelCounts(exact_pixels=100)
    for seed in range(20):
        counts.add(np.random.default_rng(seed).normal(size=(10, 10)))
    assert counts._values == []
    assert counts.table()[2].sum() == 2000


def test_ignored_pixels_are_not_counted() -> None:
    counts = PixelCounts()
    counts.add(MAP, MASK, ignored=MAP == 2)
    low, _, normal, defect = counts.table()
    assert low.tolist() == [-1, 0, 3]
    assert counts.n_pixels == normal.sum() + defect.sum() == 5


def test_minus_zero_is_zero() -> None:
    counts = PixelCounts()
    counts.add(np.float32([[-0.0, 0.0]]))
    assert counts.table()[2].tolist() == [2]


def test_bad_maps_are_refused() -> None:
    for call in (
        lambda: PixelCounts().add(np.eye(3), np.eye(4)),
        lambda: PixelCounts().add(np.eye(3), None, np.eye(4)),
        lambda: PixelCounts().add([[np.nan]]),
    ):
        with pytest.raises(DefectlocError):
            call()
