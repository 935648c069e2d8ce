"""Box scores by the threshold of the maps."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from defectloc.config import LocalizationConfig
from defectloc.evaluation.box import BoxScores
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import Grid, upsample
from defectloc.runs import threshold_curve as module
from defectloc.runs.threshold_curve import CURVE, CURVE_SIDE, N_THRESHOLDS, curve_size, threshold_curve

SIZE = 40
LOCALIZER = Localizer.fit(LocalizationConfig(normalization="none", threshold=2.0, boxes="components"))
PEAKS = {"bad/0.png": 8.0, "bad/1.png": 1.0, "good/0.png": 4.0, "good/1.png": 0.5}
TRUE = {name: np.array([[8, 8, 16, 16]] if name.startswith("bad") else np.zeros((0, 4))) for name in PEAKS}
TEST = pd.DataFrame({"path": list(PEAKS), "predicted": [1, 0, 1, 0], "height": SIZE, "width": SIZE})


def of_row(row, size=None):
    """A map of 5 x 5 cells with one peak, 40 x 40 pixels."""
    cells = np.zeros((5, 5), np.float32)
    cells[1, 1] = PEAKS[row.path]
    return upsample(cells, size or (row.height, row.width), SIZE, Grid(8, 3.5))


MAPS = SimpleNamespace(map=of_row)


@pytest.mark.parametrize("normalization", ["none", "minmax", "max"])
def test_the_curve_is_that_of_the_boxes_themselves(normalization):
    localizer = replace(LOCALIZER, normalization=normalization, threshold=0.5, min_area=3, min_peak=0.6)
    curve = threshold_curve(MAPS, TEST, TRUE, localizer)
    assert len(curve) == N_THRESHOLDS
    assert curve["threshold"].min() <= 0.5 < curve["threshold"].max()
    for threshold, found in zip(curve["threshold"], curve.to_dict("records"), strict=True):
        scores = BoxScores()
        for row in TEST.itertuples():
            boxes = replace(localizer, threshold=threshold).boxes(of_row(row))
            scores.add(row.path, boxes if row.predicted else boxes.iloc[:0], TRUE[row.path])
        expected = scores.compute()
        assert {name: found[name] for name in CURVE} == {name: expected[name] for name in CURVE}


def test_smaller_maps_keep_the_scores_and_the_meaning_of_an_area(monkeypatch):
    localizer = replace(LOCALIZER, min_area=60)
    full = threshold_curve(MAPS, TEST, TRUE, localizer)
    monkeypatch.setattr(module, "CURVE_SIDE", SIZE // 2)
    small = threshold_curve(MAPS, TEST, TRUE, localizer)
    np.testing.assert_array_equal(full["threshold"], small["threshold"])
    # A box moves by a pixel at most, which may turn a score whose IoU is near the one that counts.
    assert (full["box_f1_30"] == small["box_f1_30"]).mean() >= 0.8


def test_large_images_are_scored_on_small_maps():
    assert curve_size(4096, 2048) == (CURVE_SIDE, CURVE_SIDE // 2)
    assert curve_size(40, 30) == (40, 30)


def test_each_map_is_asked_for_once_and_not_for_each_threshold():
    asked = []
    maps = SimpleNamespace(map=lambda row, size=None: (asked.append((row.path, size)), of_row(row, size))[1])
    threshold_curve(maps, TEST, TRUE, LOCALIZER)
    assert sorted(asked) == [(name, size) for name in ("bad/0.png", "good/0.png") for size in ((40, 40), (56, 56))]


def test_images_of_unknown_truth_are_left_out():
    known = {name: boxes for name, boxes in TRUE.items() if name != "bad/1.png"}
    curve = threshold_curve(MAPS, TEST, known, LOCALIZER)
    assert curve["box_accuracy_30"].max() == 1
    assert threshold_curve(MAPS, TEST, TRUE, LOCALIZER)["box_accuracy_30"].max() == 0.5


def test_no_curve_where_nothing_is_predicted_defective():
    assert threshold_curve(MAPS, TEST.assign(predicted=0), TRUE, LOCALIZER).empty
