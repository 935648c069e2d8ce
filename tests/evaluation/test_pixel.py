from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from defectloc.errors import DefectlocError
from defectloc.evaluation.pixel import EXACT_PIXELS, PixelScores
from defectloc.evaluation.pixel_curve import KEYS


def scored(
    maps: list, masks: list, limit: float = 0.3, ignore: list | None = None, exact_pixels: int = EXACT_PIXELS
) -> dict[str, float | None]:
    scores = PixelScores(limit, exact_pixels)
    for i, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        scores.add(values, mask, None if ignore is None else ignore[i])
    return scores.compute()


def textbook_aupro(maps: list, masks: list, limit: float) -> float:
    regions, normal = [], []
    for values, mask in zip(maps, masks, strict=True):
        labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [values[labels == k + 1] for k in range(n)]
        normal.append(values[~mask])
    pooled = np.concatenate(normal)
    points = [(0.0, 0.0)]
    for cut in sorted({value for values in maps for value in values.ravel()}, reverse=True):
        points.append(((pooled >= cut).mean(), np.mean([(region >= cut).mean() for region in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            y = y0 + (limit - x0) / (x1 - x0) * (y1 - y0)
            area += (limit - x0) * (y0 + y) / 2
    return area / limit


def random_set(seed: int, decimals: int) -> tuple[list, list]:
    rng = np.random.default_rng(seed)
    masks = [rng.random((9, 11)) > 0.85, rng.random((6, 7)) > 0.9, np.zeros((5, 8), bool)]
    maps = [np.round(rng.normal(size=mask.shape) + mask, decimals).astype(np.float32) for mask in masks]
    return maps, masks


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([0.05, 0.3, 1.0]))
def test_against_scikit_learn_and_the_textbook(seed: int, decimals: int, limit: float) -> None:
    maps, masks = random_set(seed, decimals)
    if not np.concatenate([mask.ravel() for mask in masks]).any():
        return
    scores = scored(maps, masks, limit)
    pixels, truth = (np.concatenate([each.ravel() for each in group]) for group in (maps, masks))
    assert scores["pixel_auroc"] == pytest.approx(roc_auc_score(truth, pixels))
    assert scores["pixel_ap"] == pytest.approx(average_precision_score(truth, pixels))
    assert scores["aupro"] == pytest.approx(textbook_aupro(maps, masks, limit))
    cuts = [f1_score(truth, pixels >= cut) for cut in np.unique(pixels)]
    assert scores["pixel_f1_max"] == pytest.approx(max(cuts))
    above = pixels > scores["pixel_threshold"]
    assert f1_score(truth, above) == pytest.approx(scores["pixel_f1_max"])
    assert jaccard_score(truth, above) == pytest.approx(scores["pixel_iou_max"])


def test_perfect_map() -> None:
    mask = np.zeros((4, 5), bool)
    mask[0, 0] = mask[2:, 3:] = True
    scores = scored([mask * 2.0 - 5], [mask])
    assert all(scores[name] == 1 for name in KEYS if name not in ("pixel_threshold", "pixel_error"))


@pytest.mark.parametrize("value", [-1.0, 0.0, 3.5])
def test_constant_map(value: float) -> None:
    scores = scored([np.full((4, 5), value)], [np.eye(4, 5)])
    assert scores["aupro"] == pytest.approx(0.15)
    assert scores["pixel_auroc"] == pytest.approx(0.5)
    assert scores["pixel_ap"] == pytest.approx(4 / 20)


def test_inverted_map_scores_nothing() -> None:
    mask = np.eye(4, 5)
    scores = scored([-mask], [mask])
    assert scores["aupro"] == scores["pixel_auroc"] == 0


@pytest.mark.parametrize(("y", "x"), [(1, 2), (0, 2), (3, 2), (2, 0), (2, 4), (0, 0)])
def test_defect_of_one_pixel_also_at_the_borders(y: int, x: int) -> None:
    mask = np.zeros((4, 5), bool)
    mask[y, x] = True
    values = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    scores = scored([values], [mask])
    assert scores["pixel_auroc"] == pytest.approx((values < values[y, x]).sum() / 19)
    assert scores["aupro"] == pytest.approx(textbook_aupro([values], [mask], 0.3))


def test_aupro_weighs_regions_equally_and_joins_diagonal_ones() -> None:
    mask = np.zeros((4, 5), bool)
    mask[0, 0] = mask[1, 1] = True  # One region, though it touches diagonally only.
    mask[3, 4] = True
    values = np.zeros((4, 5))
    values[3, 4] = 1
    # Half of the regions at rate 0; from there a straight line to (1, 1), as everything else is tied.
    assert scored([values], [mask])["aupro"] == pytest.approx(0.5 + 0.3 * 0.5 / 2)


def test_no_defect_or_no_normal_pixel_is_none() -> None:
    nothing = dict.fromkeys(KEYS)
    assert PixelScores().compute() == nothing
    assert scored([np.eye(3)], [None]) == nothing
    assert scored([np.eye(3)], [np.ones((3, 3))]) == nothing


def test_ignored_pixels_count_nowhere_and_split_no_defect() -> None:
    maps, masks = random_set(3, 1)
    ignore = [np.random.default_rng(1).random(mask.shape) > 0.7 for mask in masks]
    scores = scored(maps, masks, ignore=ignore)
    kept = np.concatenate([~each.ravel() for each in ignore])
    pixels, truth = (np.concatenate([each.ravel() for each in group])[kept] for group in (maps, masks))
    assert scores["pixel_auroc"] == pytest.approx(roc_auc_score(truth, pixels))
    mask = np.array([[1, 1, 1, 0, 1, 0]], bool)
    values = np.array([[1.0, 0, 0, 0, 0, 0]])
    # One defect of two visible pixels, half found, and one of a single pixel, not found.
    bridged = scored([values], [mask], ignore=[np.array([[0, 1, 0, 0, 0, 0]])])
    assert bridged["aupro"] == pytest.approx(0.25 + 0.3 * 0.75 / 2)
    hidden = scored([values], [mask], ignore=[np.array([[0, 0, 0, 0, 1, 0]])])
    assert hidden["aupro"] == pytest.approx(1 / 3 + 0.3 * (2 / 3) / 2)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_ranking_scores_do_not_change_under_a_monotone_map(seed: int) -> None:
    maps, masks = random_set(seed, 1)
    before, after = scored(maps, masks), scored([np.arctan(values) * 5 + 2 for values in maps], masks)
    before.pop("pixel_threshold")
    after.pop("pixel_threshold")
    assert before == after


def large_set(seed: int) -> tuple[list, list, list]:
    """Images of smooth values with regions of many sizes, one of them beside an offset that leaves few bins."""
    rng = np.random.default_rng(seed)
    masks = [ndimage.gaussian_filter(rng.normal(size=(60, 70)), 2) > 0.25 for _ in range(5)] + [
        np.zeros((40, 30), bool)
    ]
    offset = rng.choice([0.0, 100.0, 1000.0])
    maps = [(offset + ndimage.gaussian_filter(rng.normal(size=m.shape) + 2.0 * m, 1)).astype(np.float32) for m in masks]
    return maps, masks, [rng.random(mask.shape) > 0.9 for mask in masks]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_bins_are_as_exact_as_they_say(seed: int, limit: float) -> None:
    maps, masks, ignore = large_set(seed)
    exact, binned = (scored(maps, masks, limit, ignore, n) for n in (EXACT_PIXELS, 0))
    assert exact.pop("pixel_error") == 0
    error = binned.pop("pixel_error")
    assert 0 <= error < 0.05
    threshold = binned.pop("pixel_threshold")
    exact.pop("pixel_threshold")
    for name, value in exact.items():
        assert abs(value - binned[name]) <= error + 1e-12, name
    # What is said of the threshold holds of the values themselves.
    counted = [~each.ravel() for each in ignore]
    pixels, truth = (
        np.concatenate([each.ravel()[used] for each, used in zip(group, counted, strict=True)])
        for group in (maps, masks)
    )
    assert f1_score(truth, pixels > threshold) == pytest.approx(binned["pixel_f1_max"])


def test_values_near_zero_are_binned_without_a_visible_error() -> None:
    maps, masks, _ = large_set(1)
    values = [each - each.mean() for each in maps]
    exact, binned = scored(values, masks), scored(values, masks, exact_pixels=0)
    assert 0 < binned["pixel_error"] < 1e-3
    for name in ("pixel_auroc", "pixel_ap", "aupro", "pixel_f1_max", "pixel_iou_max"):
        assert binned[name] == pytest.approx(exact[name], abs=1e-3)


def test_binning_may_begin_between_images_and_after_scoring() -> None:
    maps, masks, ignore = large_set(2)
    expected = scored(maps, masks, ignore=ignore, exact_pixels=0)
    assert scored(maps, masks, ignore=ignore, exact_pixels=20_000) == pytest.approx(expected)
    scores = PixelScores(exact_pixels=20_000)
    for values, mask, left_out in zip(maps, masks, ignore, strict=True):
        scores.add(values, mask, left_out)
        scores.compute()
    assert scores.compute() == pytest.approx(expected)


@pytest.mark.parametrize("value", [-1.0, 0.0, 3.5])
def test_a_constant_map_in_one_bin(value: float) -> None:
    scores = scored([np.full((4, 5), value)], [np.eye(4, 5)], exact_pixels=0)
    assert scores["aupro"] == pytest.approx(0.15)
    assert scores["pixel_auroc"] == pytest.approx(0.5)
    assert scored([np.eye(3)], [None], exact_pixels=0) == dict.fromkeys(KEYS)


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    scores = PixelScores(exact_pixels=20_000)
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores.add(rng.random((50, 50)), rng.random((50, 50)) > 0.9)
    assert not scores._normal
    assert not scores._defect
    assert not scores._region


def test_images_may_be_added_after_scoring() -> None:
    maps, masks = random_set(0, 1)
    scores = PixelScores()
    for values, mask in zip(maps, masks, strict=True):
        scores.add(values, mask)
        scores.compute()
    assert scores.compute() == scored(maps, masks)


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: PixelScores().add([[np.nan]], [[1]]),
        lambda: PixelScores().add(np.eye(3), np.eye(4)),
        lambda: PixelScores().add(np.eye(3), np.eye(3), np.eye(4)),
        lambda: PixelScores(limit=0),
    ):
        with pytest.raises(DefectlocError):
            call()
