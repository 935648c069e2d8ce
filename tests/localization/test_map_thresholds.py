import functools

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from defectloc.errors import DefectlocError
from defectloc.localization import map_thresholds
from defectloc.localization.boxes import find_boxes
from defectloc.localization.map_thresholds import from_masks, good_quantile
from defectloc.localization.pixel_counts import PixelCounts
from defectloc.localization.thresholds import NoThresholdError


@pytest.fixture
def in_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_thresholds, "PixelCounts", functools.partial(PixelCounts, exact_pixels=0))


def maps_and_masks() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    masks = [rng.random((18, 19)) > 0.7, np.zeros((15, 14), bool)]
    return [(rng.normal(size=mask.shape) + 2 * mask).astype(np.float32) for mask in masks], masks


def test_good_quantile_leaves_the_share_below() -> None:
    maps = [np.arange(60.0).reshape(6, 10), np.arange(60.0, 100).reshape(4, 10)]
    pairs = [(each, None) for each in maps]
    assert good_quantile(pairs, 0.9).value == 89
    assert good_quantile(pairs, 1).value == 99
    assert len(find_boxes(maps[1], good_quantile(pairs, 1).value)) == 0


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_good_quantile_is_numpys_on_all_pixels_at_once(q: float) -> None:
    maps, _ = maps_and_masks()
    expected = np.quantile(np.concatenate([each.ravel() for each in maps]), q, method="inverted_cdf")
    assert good_quantile(((each, None) for each in maps), q).value == expected


@pytest.mark.parametrize("q", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.usefixtures("in_bins")
def test_good_quantile_of_many_pixels_is_at_most_a_bin_above(q: float) -> None:
    maps, _ = maps_and_masks()
    pixels = np.concatenate([each.ravel() for each in maps])
    exact = np.quantile(pixels, q, method="inverted_cdf")
    value = good_quantile(((each, None) for each in maps), q).value
    assert exact <= value <= exact + abs(exact) * 2**-13
    assert (pixels <= value).mean() >= q


def test_from_masks_finds_the_best_f1_of_all_cuts() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((8, 9)) > 0.7, np.zeros((5, 4), bool)]
    maps = [np.round(rng.normal(size=mask.shape) + 2 * mask, 1) for mask in masks]
    pixels, truth = (np.concatenate([each.ravel() for each in group]) for group in (maps, masks))
    best = max(f1_score(truth, pixels > cut) for cut in np.unique(pixels) - 0.05)
    chosen = from_masks(zip(maps, masks, [None, None], strict=True))
    assert f1_score(truth, pixels > chosen.value) == pytest.approx(best)


@pytest.mark.usefixtures("in_bins")
def test_from_masks_of_many_pixels_is_as_good_but_for_cuts_within_a_bin() -> None:
    maps, masks = maps_and_masks()
    pixels, truth = (np.concatenate([each.ravel() for each in group]) for group in (maps, masks))
    precision, recall, _ = precision_recall_curve(truth, pixels)
    best = (2 * precision * recall / (precision + recall)).max()
    value = from_masks(zip(maps, masks, [None, None], strict=True)).value
    assert f1_score(truth, pixels > value) == pytest.approx(best, abs=0.002)


def test_ignored_pixels_choose_nothing() -> None:
    maps = np.float32([[0, 1, 9, 9]])
    assert from_masks([(maps, [[0, 1, 0, 0]], [[0, 0, 1, 1]])]).value == 0.5
    assert good_quantile([(maps, [[0, 0, 1, 1]])], 1).value == 1


def test_without_pixels_of_both_kinds_there_is_no_threshold() -> None:
    with pytest.raises(NoThresholdError, match="no good image"):
        good_quantile([], 0.9)
    for mask in (np.zeros((3, 3)), np.ones((3, 3))):
        with pytest.raises(NoThresholdError, match="one class of pixels"):
            from_masks([(np.eye(3), mask, None)])
    with pytest.raises(NoThresholdError, match="one class of pixels"):
        from_masks([])


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: good_quantile([(np.eye(3), None)], 95),
        lambda: from_masks([(np.eye(3), np.eye(4), None)]),
    ):
        with pytest.raises(DefectlocError):
            call()
