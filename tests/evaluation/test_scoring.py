"""The loop over maps, masks and boxes."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from defectloc.evaluation.box import BoxScores, pointing_game, visible_boxes
from defectloc.evaluation.max_box import MaxBoxAccV2
from defectloc.evaluation.pimo import PerImageOverlap
from defectloc.evaluation.pixel import PixelScores
from defectloc.evaluation.scoring import LocatedScores, MapSample, MapScores, score, score_boxes, score_maps
from defectloc.localization.boxes import CORNERS, find_boxes
from tests.handmade import square

NONE = square(0, 0, 0, 0)


def perfect(name: str, mask: np.ndarray, ignored: np.ndarray | None = None) -> MapSample:
    values = mask.astype(np.float32)
    return MapSample(name, values, mask, ignored, find_boxes(values, 0.5), regions=mask)


def test_perfect_maps_score_1() -> None:
    scores = score([perfect("a", square(1, 1, 4, 4)), perfect("good", NONE)], MapScores(), LocatedScores())
    names = ("pixel_auroc", "aupro", "aupimo", "pointing_game", "max_box_acc_v2", "box_f1_50", "instance_f1")
    assert {name: scores[name] for name in names} == dict.fromkeys(names, 1.0)
    assert scores["false_boxes_per_good_image"] == 0


def test_both_halves_together_are_each_alone() -> None:
    samples = [perfect("a", square(1, 1, 4, 4)), perfect("good", NONE)]
    together = score(samples, MapScores(), LocatedScores())
    assert together == score_maps(samples) | score_boxes(samples)


def test_equals_the_scores_of_each_kind() -> None:
    rng = np.random.default_rng(0)
    masks = [square(1, 1, 4, 4) | square(6, 6, 9, 8), square(2, 5, 3, 9), NONE]
    samples, hits = [], []
    pixels, overlap, best, boxes = PixelScores(), PerImageOverlap(), MaxBoxAccV2(), BoxScores()
    for i, mask in enumerate(masks):
        values, small = rng.normal(size=(10, 10)) + mask, np.kron(rng.normal(size=(28, 28)), np.ones((8, 8)))
        found = find_boxes(values, 1)
        samples.append(MapSample(str(i), values, mask, boxes=found, small=small))
        pixels.add(values, mask)
        overlap.add(values, mask)
        boxes.add(str(i), found, visible_boxes(mask), mask.shape)
        if mask.any():
            hits.append(pointing_game(values, mask))
            best.add(small, visible_boxes(mask) * 22.4)
    expected = {**pixels.compute(), **overlap.compute(), "pointing_game": np.mean(hits), **best.compute()}
    assert score_maps(samples) == expected
    found = score_boxes(samples)
    assert {name: found[name] for name in boxes.compute()} == boxes.compute()
    assert found["instance_f1"] is None


def test_samples_are_taken_one_at_a_time() -> None:
    alive = []

    class Tracked(MapSample):
        def __del__(self) -> None:
            alive.remove(self.name)

    def samples() -> Iterator[MapSample]:
        for i in range(4):
            # The one before may live until the next is made.
            assert len(alive) <= 1
            alive.append(str(i))
            mask = square(1, 1, 4, 4)
            yield Tracked(str(i), mask.astype(float), mask, boxes=find_boxes(mask, 0.5))

    score(samples(), MapScores(), LocatedScores())


def test_an_ignored_strip_splits_no_defect() -> None:
    mask, strip = square(0, 2, 10, 6), square(4, 0, 6, 10)
    values = np.where(strip, 0, mask).astype(float)
    whole = pd.DataFrame([[0, 2, 10, 6, 1.0]], columns=[*CORNERS, "score"])
    sample = MapSample("a", values, mask, strip, whole, regions=mask & ~strip)
    assert sample.known_boxes.tolist() == [[0, 2, 10, 6]]
    scores = score([sample], MapScores(), LocatedScores())
    assert scores["n_true_boxes"] == 1
    assert scores["box_f1_50"] == scores["instance_f1"] == scores["aupro"] == 1
    # AUPRO weighs the defect once: beside a second one, missed, it is half.
    other = MapSample("b", np.zeros((10, 10)), square(0, 0, 2, 2), strip)
    assert score_maps([sample, other])["aupro"] == pytest.approx(0.5 + 0.5 * 0.3 / 2)


def test_what_is_wholly_ignored_is_left_out() -> None:
    mask, strip = square(0, 0, 2, 2) | square(7, 7, 9, 9), square(6, 0, 10, 10)
    one = perfect("one", mask, strip)
    assert one.known_boxes.tolist() == [[0, 0, 2, 2]]
    assert not one.is_hidden
    hidden = perfect("hidden", square(7, 7, 9, 9), strip)
    assert hidden.is_hidden
    scores = score([one, hidden], MapScores(), LocatedScores())
    # The hidden one is no good image with a false box either.
    assert scores["false_boxes_per_good_image"] is None
    assert scores["n_true_boxes"] == 1
    assert scores["aupimo"] is None
    assert score_maps([hidden])["pointing_game"] is None


def test_true_boxes_that_are_wholly_ignored_are_left_out() -> None:
    """They give the scores that their masks give."""
    strip = square(6, 0, 10, 10)
    for truth, n_known in (
        (square(0, 0, 2, 2) | square(7, 7, 9, 9), 1),
        (square(7, 7, 9, 9), 0),
        (square(5, 5, 8, 8), 1),
        (NONE, 0),
    ):
        by_mask = perfect("a", truth, strip)
        by_boxes = MapSample("a", by_mask.map, None, strip, by_mask.boxes, visible_boxes(truth).astype(float))
        assert len(by_boxes.known_boxes) == n_known
        assert by_boxes.known_boxes.tolist() == by_mask.known_boxes.tolist()
        assert by_boxes.is_hidden == by_mask.is_hidden
        names = ("n_true_boxes", "false_boxes_per_good_image", "box_f1_50", "max_box_acc_v2")
        scores = [score([sample], MapScores(), LocatedScores()) for sample in (by_mask, by_boxes)]
        assert {name: scores[0][name] for name in names} == {name: scores[1][name] for name in names}
    # A pixel of which a box covers a part counts.
    touching = MapSample("a", np.zeros((10, 10)), None, strip, true_boxes=np.array([[5.9, 6.5, 9, 9], [6, 6, 10, 10]]))
    assert touching.known_boxes.tolist() == [[5.9, 6.5, 9, 9]]


def test_a_map_cannot_win_where_nothing_counts() -> None:
    mask, strip = square(0, 0, 2, 2), square(8, 8, 10, 10)
    sample = MapSample("a", mask + 2.0 * strip, mask, strip)
    scores = score_maps([sample])
    assert scores["pointing_game"] == scores["max_box_acc_v2"] == scores["pixel_auroc"] == 1


def test_what_is_not_known_is_left_out() -> None:
    mask = square(1, 1, 4, 4)
    boxes = find_boxes(mask, 0.5)
    without = [
        MapSample("no mask", mask.astype(float), boxes=boxes),
        MapSample("no boxes", mask=mask),
        MapSample("good, not decided", mask.astype(float), NONE),
    ]
    scores = score(without, MapScores(), LocatedScores())
    assert scores["pixel_auroc"] is scores["box_f1_30"] is scores["false_boxes_per_good_image"] is None


def test_true_boxes_stand_in_for_a_mask() -> None:
    mask = square(1, 1, 4, 4)
    sample = MapSample("a", mask.astype(float), boxes=find_boxes(mask, 0.5), true_boxes=visible_boxes(mask))
    scores = score([sample], MapScores(), LocatedScores())
    assert scores["box_f1_50"] == scores["max_box_acc_v2"] == 1
    assert scores["box_recall_by_size"]["large"]["n"] == 1
    assert scores["pixel_auroc"] is scores["pointing_game"] is scores["instance_f1"] is None
