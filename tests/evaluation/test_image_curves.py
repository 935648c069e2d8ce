"""Curves of whole images, counted by hand."""

import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.evaluation.image import image_scores
from defectloc.evaluation.image_curves import calibration_bins, precision_recall_points, roc_points

LABELS = [0, 0, 1, 1]
SCORES = [0.1, 0.4, 0.35, 0.8]


def test_the_areas_are_those_of_the_scores():
    scores = image_scores(LABELS, SCORES, None)
    roc = roc_points(LABELS, SCORES)
    assert np.trapezoid(roc[:, 1], roc[:, 0]) == pytest.approx(scores["auroc"])
    points = precision_recall_points(LABELS, SCORES)[::-1]
    steps = np.diff(np.concatenate([[0], points[:, 0]])) * points[:, 1]
    assert steps.sum() == pytest.approx(scores["average_precision"])


def test_one_class_has_no_curve():
    assert roc_points([0, 0], [1.0, 2.0]) is None
    assert precision_recall_points([1, 1], [1.0, 2.0]) is None


def test_bins_hold_each_image_once_and_the_ends_too():
    table = calibration_bins([0, 1, 1, 0], [0.0, 1.0, 0.9, 0.1])
    assert list(table["n"]) == [2, 2]
    assert list(table["share"]) == [0.0, 1.0]
    assert table["probability"].tolist() == pytest.approx([0.05, 0.95])
    assert (table["low"] <= table["share"]).all()
    assert (table["high"] >= table["share"]).all()


def test_many_images_have_ten_bins():
    probabilities = (np.arange(400) + 0.5) / 400
    assert len(calibration_bins(np.arange(400) % 2, probabilities)) == 10
    assert len(calibration_bins([0, 1], [0.2, 0.4])) == 2
    assert calibration_bins([], []).empty


def test_no_number_is_refused():
    with pytest.raises(DefectlocError, match="NaN"):
        roc_points([0, 1], [0.5, np.nan])
