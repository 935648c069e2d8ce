import cv2
import numpy as np
import pytest
from scipy import ndimage

from defectloc.errors import DefectlocError
from defectloc.evaluation.box import visible_boxes
from defectloc.evaluation.max_box import MaxBoxAccV2
from defectloc.localization.boxes import iou

SIZE = 24
LEVELS = (0.3, 0.5, 0.7)


def random_mask(rng: np.random.Generator) -> np.ndarray:
    """Two boxes, which may touch."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(2):
        x0, y0 = rng.integers(0, 12, 2)
        width, height = rng.integers(1, 10, 2)
        mask[y0 : y0 + height, x0 : x0 + width] = 1
    return mask


# What maps are like: of many regions, smooth, of many equal values, without any order.
KINDS = {
    "noisy": lambda mask, noise: ndimage.gaussian_filter(mask + 0.4 * noise, 1.5),
    "coarse": lambda mask, noise: cv2.resize(cv2.resize(mask + 0.2 * noise, (6, 6)), (SIZE, SIZE)),
    "stepped": lambda mask, noise: np.round(ndimage.gaussian_filter(5 * mask + noise, 1) * 2),
    "random": lambda mask, noise: noise,
}


def reached_by_a_loop(values: np.ndarray, true: np.ndarray) -> np.ndarray:
    """At which of all thresholds a region's box has which IoU, `(3, 1000)`."""
    span = np.ptp(values)
    scaled = ((values - values.min()) / span if span else np.zeros_like(values)).astype(np.float32).astype(np.float64)
    best = np.zeros(1000)
    for k in range(1000):
        labels, n = ndimage.label(scaled > k / 1000, structure=np.ones((3, 3)))
        boxes = [[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(labels)]
        best[k] = iou(boxes, true).max() if n else 0
    return best >= np.array(LEVELS)[:, None]


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_a_loop_over_all_thresholds(kind: str) -> None:
    """Image by image and all together, the oracle's thresholds too."""
    rng = np.random.default_rng(0)
    all_images, hits = MaxBoxAccV2(), []
    for i in range(4):
        mask = random_mask(rng)
        values = KINDS[kind](mask, rng.normal(size=mask.shape).astype(np.float32)).astype(np.float64)
        true = np.array([[0, 0, SIZE, SIZE], [3, 3, 4, 4]]) if i == 0 else visible_boxes(mask)
        alone = MaxBoxAccV2()
        for scores in (alone, all_images):
            scores.add(values, true)
        hits.append(reached_by_a_loop(values, true))
        assert alone.compute() == summary(hits[-1].astype(float))
    all_images.add(values, [])
    assert 0 < all_images.compute()["max_box_acc_v2"] <= 1
    assert all_images.compute() == summary(np.mean(hits, axis=0))


def summary(accuracy: np.ndarray) -> dict[str, float | None]:
    return {
        "max_box_acc_v2": accuracy.max(1).mean(),
        **{f"max_box_acc_{100 * level:.0f}": row.max() for level, row in zip(LEVELS, accuracy, strict=True)},
        **{
            f"tau_{100 * level:.0f}": row.argmax() / 1000 if row.any() else None
            for level, row in zip(LEVELS, accuracy, strict=True)
        },
    }


def test_of_a_perfect_and_of_a_flat_map() -> None:
    mask = np.zeros((20, 30))
    mask[0:7, 25:30] = 1
    perfect, flat = MaxBoxAccV2(), MaxBoxAccV2()
    perfect.add(mask * 8 - 3, visible_boxes(mask))
    flat.add(np.full(mask.shape, 2.0), visible_boxes(mask))
    assert perfect.compute()["max_box_acc_v2"] == 1
    assert flat.compute()["max_box_acc_v2"] == 0
    assert flat.compute()["tau_30"] is None
    assert set(MaxBoxAccV2().compute().values()) == {None}
    with pytest.raises(DefectlocError, match="NaN"):
        flat.add(np.full(mask.shape, np.nan), [])
