import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from defectloc.errors import DefectlocError
from defectloc.evaluation.box import BoxScores, match, pointing_game, visible_boxes
from defectloc.localization.boxes import CORNERS, find_boxes, iou, to_coco


def table(*boxes: list[float]) -> pd.DataFrame:
    return pd.DataFrame(boxes, columns=[*CORNERS, "score"])


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    low = rng.integers(0, 12, (n, 2))
    return np.concatenate([low, low + rng.integers(1, 10, (n, 2))], axis=1)


def test_boxes_by_hand() -> None:
    scores = BoxScores()
    # The first box finds the first defect, the second a defect that is taken, the third the second at IoU 0.4 only.
    predicted = table([0, 0, 10, 10, 0.9], [0, 0, 10, 8, 0.8], [20, 0, 24, 10, 0.7])
    scores.add("a", predicted, [[0, 0, 10, 10], [20, 0, 30, 10]], size=(100, 100))
    scores.add("b", table(), [[0, 0, 30, 30]], size=(100, 100))
    scores.add("good", table([0, 0, 5, 5, 0.6]), [])
    scores.add("good too", table(), np.zeros((0, 4)))
    result = scores.compute()
    assert (result["n_boxes"], result["n_true_boxes"]) == (4, 3)
    assert result["box_precision_30"] == pytest.approx(2 / 4)
    assert result["box_recall_30"] == pytest.approx(2 / 3)
    assert result["box_f1_30"] == pytest.approx(4 / 7)
    assert result["box_f1_50"] == pytest.approx(2 / 7)
    assert result["box_accuracy_30"] == result["box_accuracy_50"] == 0.5
    assert result["false_boxes_per_good_image"] == 0.5
    assert result["box_recall_by_size"] == {
        "small": {"n": 0, "recall_30": None, "recall_50": None},
        "medium": {"n": 2, "recall_30": 1.0, "recall_50": 0.5},
        "large": {"n": 1, "recall_30": 0.0, "recall_50": 0.0},
    }


def test_the_boxes_of_the_mask_itself_are_perfect() -> None:
    mask = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 1]])
    scores = BoxScores()
    scores.add("a", find_boxes(mask, 0.5), visible_boxes(mask))
    result = scores.compute()
    assert {result[f"box_{name}"] for name in ("f1_30", "f1_50", "accuracy_50", "precision_50", "recall_50")} == {1.0}
    assert result["box_recall_by_size"] is None
    assert result["false_boxes_per_good_image"] is None


def test_what_cannot_be_measured_is_none() -> None:
    scores = BoxScores()
    assert {value for key, value in scores.compute().items() if not key.startswith("n_")} == {None}
    scores.add("good", table([0, 0, 5, 5, 0.6]), [])
    result = scores.compute()
    assert result.pop("false_boxes_per_good_image") == 1
    assert {value for key, value in result.items() if not key.startswith("n_")} == {None}
    silent = BoxScores()
    silent.add("a", table(), [[0, 0, 5, 5]])
    result = silent.compute()
    assert (result["box_f1_30"], result["box_recall_30"], result["box_precision_30"]) == (0, 0, None)


def test_an_image_added_twice_is_refused() -> None:
    scores = BoxScores()
    scores.add("a", table(), [])
    with pytest.raises(DefectlocError, match="twice"):
        scores.add("a", table(), [])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5]))
def test_matching_agrees_with_pycocotools(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    true, predicted = random_boxes(rng, int(rng.integers(1, 6))), random_boxes(rng, int(rng.integers(1, 8)))
    scores = rng.permutation(len(predicted)) / 10
    sizes = {"a": (30, 30)}
    truth = COCO()
    truth.dataset = to_coco(sizes, pd.DataFrame(true, columns=CORNERS).assign(path="a"))
    truth.createIndex()
    result = to_coco(sizes, pd.DataFrame(predicted, columns=CORNERS).assign(path="a", score=scores))
    evaluation = COCOeval(truth, truth.loadRes(result["annotations"]), "bbox")
    evaluation.params.iouThrs = np.array([level])
    evaluation.evaluate()
    by_score = np.argsort(-scores)
    expected = evaluation.evalImgs[0]["dtMatches"][0].astype(int) - 1
    # Where one box has the same IoU with two true ones either may be taken.
    if all(len(set(row)) == len(row) for row in (r[r >= level].round(9).tolist() for r in iou(predicted, true))):
        np.testing.assert_array_equal(match(predicted, scores, true, level)[by_score], expected)


def test_boxes_of_what_is_visible() -> None:
    mask = np.array([[1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1]])
    assert visible_boxes(mask).tolist() == [[0, 0, 3, 1], [4, 0, 5, 1], [0, 2, 1, 3], [5, 2, 6, 3]]
    ignore = np.zeros_like(mask)
    ignore[:, 1] = ignore[:, 4] = 1
    # The first is one box in spite of the column across it, the second is wholly ignored.
    assert visible_boxes(mask, ignore).tolist() == [[0, 0, 3, 1], [0, 2, 1, 3], [5, 2, 6, 3]]
    assert visible_boxes(mask, np.ones_like(mask)).shape == (0, 4)


def test_pointing_game() -> None:
    mask = np.zeros((20, 20))
    mask[5:8, 5:8] = 1
    values = np.zeros((20, 20))
    values[10, 6] = 1
    assert pointing_game(values, mask, tolerance=3) == 1
    assert pointing_game(values, mask, tolerance=2.9) == 0
    # 15 of 224 px are 1.3 of 20.
    assert pointing_game(values, mask) == 0
    assert pointing_game(mask, mask, tolerance=0) == 1
    values[6, 6] = 1
    assert pointing_game(values, mask, tolerance=0) == 0.5
    assert pointing_game(np.zeros((20, 20)), mask, tolerance=0) == pytest.approx(9 / 400)
    for bad in (np.zeros((20, 20)), np.ones((4, 5))):
        with pytest.raises(DefectlocError, match="mask"):
            pointing_game(values, bad)
