"""AUPIMO against a direct computation with all thresholds."""

import numpy as np
import pytest
from scipy import ndimage

from defectloc.errors import DefectlocError
from defectloc.evaluation.pimo import BOUNDS, N_VALUES, PerImageOverlap


def slow_pimo(maps: list, masks: list) -> np.ndarray:
    """Recall of each defective image on a fine grid of rates, by trying all thresholds for each."""
    good = [each.ravel() for each, mask in zip(maps, masks, strict=True) if not mask.any()]
    defective = [each[mask] for each, mask in zip(maps, masks, strict=True) if mask.any()]
    # The lowest of so few stand for rates far above the bounds.
    thresholds = np.unique(np.concatenate(good))[-300:]
    rate = np.array([np.mean([(each > t).mean() for each in good]) for t in thresholds])
    x = np.exp(np.linspace(*np.log(BOUNDS), 1001))
    middle = np.sqrt(x[1:] * x[:-1])
    assert rate[0] > BOUNDS[1]
    lowest = [thresholds[rate <= each].min() for each in middle]
    return np.array([np.mean([(values > t).mean() for t in lowest]) for values in defective])


def scored(maps: list, masks: list, ignore: list | None = None) -> PerImageOverlap:
    scores = PerImageOverlap()
    for i, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        scores.add(values, mask, None if ignore is None else ignore[i])
    return scores


def test_agrees_with_trying_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    maps, masks = [], []
    for size, defect in [
        ((200, 250), False),
        ((300, 300), False),
        ((120, 100), True),
        ((80, 90), True),
        ((60, 60), True),
    ]:
        mask = np.zeros(size, bool)
        if defect:
            mask[20:40, 10:50] = True
        masks.append(mask)
        # Multiples of 1/64, so that no bin joins two of them.
        maps.append(np.round((rng.normal(size=size) + 4 * mask) * 64) / 64)
    scores = scored(maps, masks)
    expected = slow_pimo(maps, masks)
    assert 0.1 < expected.min() < expected.max() < 0.9
    np.testing.assert_allclose(scores.image_scores(), expected, atol=2e-3)
    assert scores.compute() == {"aupimo": pytest.approx(scores.image_scores().mean())}


def test_perfect_and_constant_maps() -> None:
    mask = np.zeros((40, 40), bool)
    mask[3:6, 3:9] = True
    maps = [mask * 2.0 - 5, np.full((40, 40), -5.0)]
    assert scored(maps, [mask, np.zeros_like(mask)]).compute() == {"aupimo": 1.0}
    assert scored([np.zeros((40, 40))] * 2, [mask, np.zeros_like(mask)]).compute() == {"aupimo": 0.0}


def test_half_of_the_range_by_hand() -> None:
    # One good image of 100,000 pixels, its highest two at 9 and 8: from a rate of 1e-5 on, the threshold is 8; from
    # 2e-5 on it is 0. Of the defect a quarter is at 10, a quarter at 8.5 and the rest at 1.
    good = np.zeros((250, 400))
    good[0, :2] = 9, 8
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    found = scored([good, np.array([[10, 8.5, 1, 1]] + [[20] * 4] * 3)], [np.zeros_like(good), mask]).compute()
    share = np.log(2) / np.log(10)
    assert found["aupimo"] == pytest.approx(0.5 * share + 1.0 * (1 - share))


def test_large_defects_are_summarised() -> None:
    rng = np.random.default_rng(1)
    good = ndimage.gaussian_filter(rng.normal(size=(500, 500)), 1)
    mask = np.ones((300, 300), bool)
    values = good.max() - 0.2 + 0.3 * ndimage.gaussian_filter(rng.normal(size=mask.shape), 1)
    found = scored([good, values], [np.zeros_like(good, bool), mask]).image_scores()
    assert mask.sum() > N_VALUES
    expected = slow_pimo([good, values], [np.zeros_like(good, bool), mask])
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_ignored_pixels_count_nowhere() -> None:
    rng = np.random.default_rng(2)
    mask = np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    maps, masks = [rng.normal(size=(30, 30)) + 3 * mask, rng.normal(size=(30, 30))], [mask, np.zeros_like(mask)]
    ignore = np.zeros((30, 30), bool)
    ignore[:, 15:] = True
    halves = scored([each[:, :15] for each in maps], [each[:, :15] for each in masks]).compute()
    assert scored(maps, masks, [ignore, ignore]).compute() == pytest.approx(halves)
    # A defect that is wholly ignored makes the image neither good nor defective.
    assert scored(maps, masks, [mask, ignore]).compute() == {"aupimo": None}


def test_what_cannot_be_measured_is_none() -> None:
    assert PerImageOverlap().compute() == {"aupimo": None}
    assert scored([np.eye(3)], [np.eye(3)]).compute() == {"aupimo": None}
    assert scored([np.eye(3)], [None]).compute() == {"aupimo": None}
    with pytest.raises(DefectlocError, match="one size"):
        PerImageOverlap().add(np.eye(3), np.eye(4))
