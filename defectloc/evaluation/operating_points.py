"""Decisions and boxes of test images at 101 thresholds of the probability, the run's own among them."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from defectloc.evaluation.box import BoxScores
from defectloc.evaluation.image import decision_intervals, decision_scores
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.decision import Decision, Limit

N_LIMITS = 101
BOXES = ("box_f1_30", "box_f1_50", "box_accuracy_30", "false_boxes_per_good_image")


@dataclass(frozen=True)
class BoxedImage:
    """An image with its score, the boxes it has if predicted defective, and its true boxes `(M, 4)` or None."""

    name: str
    score: float
    boxes: pd.DataFrame
    true_boxes: NDArray | None


def limits_of(decision: Decision) -> tuple[list[Limit], int]:
    """Return 101 limits in rising order, and the place of the decision's own.

    They are the probabilities 0, 0.01, ... 1, of which the one next to the run's own gives its place to that. At 0
    every image is predicted defective, at 1 none is.
    """
    own = decision.threshold
    place = int(np.clip(round(own.probability * (N_LIMITS - 1)), 1, N_LIMITS - 2))
    limits = []
    for number in range(N_LIMITS):
        probability = number / (N_LIMITS - 1)
        limits.append(Limit(decision.calibration.score_at(probability, decision.prevalence), probability))
    limits[place] = own
    return limits, place


def n_limits_below(limits: Sequence[Limit], scores: ArrayLike) -> NDArray[np.intp]:
    """Count the limits that lie below each score `(N,)`: at these first ones the image is predicted defective."""
    return np.searchsorted([limit.score for limit in limits], np.asarray(scores, dtype=np.float64), side="left")


def scores_at(limits: Sequence[Limit], test: pd.DataFrame, boxed: Iterable[BoxedImage]) -> list[dict[str, Any]]:
    """Score the decisions on test images (`label, score`), and the boxes of those predicted defective, at each limit.

    Each has `confusion`, `escapes`, `overkill`, the rates of decisions with `intervals_95`, and the keys of `BOXES`, by
    the same functions as the scores of a run. Images whose true boxes are None are left out of the box scores.
    """
    n_below = n_limits_below(limits, test["score"])
    boxes = _box_scores(limits, list(boxed))
    found = []
    for number in range(len(limits)):
        predicted = (n_below > number).astype(int)
        scores = decision_scores(test["label"], predicted)
        found.append(
            scores
            | {"intervals_95": decision_intervals(scores["confusion"])}
            | {name: boxes[number][name] for name in BOXES}
        )
    return found


def _box_scores(limits: Sequence[Limit], images: list[BoxedImage]) -> list[dict[str, Any]]:
    """Score the boxes at each limit, adding each image twice in all: with its boxes and without."""
    known = sorted((each for each in images if each.true_boxes is not None), key=lambda each: -each.score)
    n_below = n_limits_below(limits, [each.score for each in known])
    n_predicted = [int((n_below > number).sum()) for number in range(len(limits))]
    rejected = _of_first(known, set(n_predicted), with_boxes=True)
    passed = _of_first(known[::-1], {len(known) - n for n in n_predicted}, with_boxes=False)
    computed = {n: (rejected[n] + passed[len(known) - n]).compute() for n in set(n_predicted)}
    return [computed[n] for n in n_predicted]


def _of_first(images: Sequence[BoxedImage], counts: set[int], with_boxes: bool) -> dict[int, BoxScores]:
    """Give the box scores of the first n images for each n of `counts`."""
    none = pd.DataFrame(columns=COLUMNS, dtype=float)
    running, found = BoxScores(), {}
    for number in range(len(images) + 1):
        if number in counts:
            found[number] = deepcopy(running)
        if number < len(images):
            image = images[number]
            assert image.true_boxes is not None
            running.add(image.name, image.boxes if with_boxes else none, image.true_boxes)
    return found
