"""Instance scores against the definition, pixel by pixel."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from defectloc.errors import DefectlocError
from defectloc.evaluation.instance import LEVELS, InstanceScores, predicted_regions
from defectloc.localization.boxes import find_boxes
from tests.handmade import square


def slow_f1(images: list[tuple]) -> tuple[float, list]:
    """The published definition by sets of pixels: predicted, true, ignored."""
    overlaps, precisions = [], []
    for predicted, mask, ignored in images:
        eight = np.ones((3, 3))
        labels, n = ndimage.label(mask, eight)
        true = [set(map(tuple, np.argwhere((labels == k + 1) & ~ignored))) for k in range(n)]
        labels, n = ndimage.label(predicted & ~ignored, eight)
        found = [set(map(tuple, np.argwhere(labels == k + 1))) for k in range(n)]
        true = [each for each in true if each]
        for each in true:
            others = set().union(*[t for t in true if t is not each])
            touching = set().union(*[f for f in found if f & each])
            overlaps.append(len(touching & each) / len((touching | each) - (others & touching)))
        everything = set().union(*true)
        precisions += [len(each & everything) / len(each) for each in found]
    f1 = []
    for level in LEVELS:
        tp = sum(each >= level for each in overlaps)
        false = sum(each < level for each in precisions)
        f1.append(2 * tp / (2 * tp + len(overlaps) - tp + false))
    return float(np.mean(f1)), overlaps


def scored(images: list[tuple]) -> dict:
    scores = InstanceScores()
    for predicted, mask, ignored in images:
        scores.add(predicted, mask, ignored)
    return scores.compute()


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def blobs(shift: float) -> np.ndarray:
        return ndimage.gaussian_filter(rng.normal(size=(20, 24)), 1.5) > shift

    images = []
    for _ in range(3):
        mask = blobs(0.15)
        images.append((np.roll(mask, 1) & (rng.random(mask.shape) > 0.2), mask, blobs(0.3)))
    images.append((blobs(0.3), np.zeros((20, 24), bool), np.zeros((20, 24), bool)))
    expected, overlaps = slow_f1(images)
    found = scored(images)
    assert 0 < expected < 1
    assert found["instance_f1"] == pytest.approx(expected)
    assert found["instance_siou"] == pytest.approx(np.mean(overlaps))


def test_splits_and_merges_are_forgiven() -> None:
    none = np.zeros((10, 10), bool)
    mask = square(1, 1, 9, 4)
    in_parts = mask.copy()
    in_parts[:, 5] = False
    assert scored([(in_parts, mask, none)])["instance_f1_50"] == 1
    two = square(0, 0, 4, 4) | square(5, 0, 9, 4)
    as_one = two | square(0, 0, 9, 4)
    # 16 of 16 + 4 pixels of each: what lies on the other defect is not held against it.
    assert scored([(as_one, two, none)])["instance_siou"] == pytest.approx(0.8)
    assert scored([(as_one, two, none)])["instance_f1"] == 1


def test_by_hand() -> None:
    none = np.zeros((10, 10), bool)
    # Half of the defect: sIoU 0.5 reaches six of eleven levels, and the region beside it is false at all.
    predicted = square(1, 1, 3, 5) | square(8, 8, 10, 10)
    found = scored([(predicted, square(1, 1, 5, 5), none)])
    assert found["instance_siou"] == 0.5
    assert found["instance_f1_50"] == pytest.approx(2 / 3)
    assert found["instance_f1"] == pytest.approx(2 / 3 * 6 / 11)
    # On a good image each region is false.
    again = scored([(predicted, square(1, 1, 5, 5), none), (predicted, none, none)])
    assert again["instance_f1_50"] == pytest.approx(2 / 5)


def test_an_overlap_of_exactly_three_tenths_reaches_that_level() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0] = True
    found = scored([(np.where(np.arange(10) < 3, mask, False), mask, np.zeros_like(mask))])
    assert found["instance_f1"] == pytest.approx(2 / 11)


def test_an_ignored_strip_splits_no_defect() -> None:
    mask, strip = square(0, 0, 10, 4), square(4, 0, 6, 10)
    # Only the left part is found: one defect, half found; as two it would be one found and one missed.
    found = scored([(square(0, 0, 4, 4), mask, strip)])
    assert found["instance_siou"] == 0.5
    assert found["instance_f1_50"] == 1
    assert scored([(mask, square(4, 0, 6, 4), strip)])["instance_f1"] is None


def test_without_a_defect_nothing_is_measured() -> None:
    assert set(InstanceScores().compute().values()) == {None}
    assert set(scored([(np.eye(3), None, None)]).values()) == {None}
    with pytest.raises(DefectlocError, match="one size"):
        InstanceScores().add(np.eye(3), np.eye(4))


def test_regions_are_those_that_have_a_box() -> None:
    values = 0.9 * square(0, 0, 3, 3) + 0.6 * square(6, 6, 9, 9) + 0.9 * square(5, 0, 6, 1)
    settings = {"min_area": 2, "min_peak": 0.8}
    boxes = find_boxes(values, 0.5, **settings)
    np.testing.assert_array_equal(predicted_regions(values, 0.5, boxes, 2), square(0, 0, 3, 3))
    around = find_boxes(values, 0.5, "single", min_area=2)
    np.testing.assert_array_equal(predicted_regions(values, 0.5, around, 2), square(0, 0, 3, 3) | square(6, 6, 9, 9))
    assert not predicted_regions(values, 0.5, pd.DataFrame(columns=["x0", "y0", "x1", "y1"])).any()
