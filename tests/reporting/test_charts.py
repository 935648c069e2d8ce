"""Charts in the coordinates of an SVG."""

import numpy as np
import pandas as pd
import pytest

from defectloc.reporting import charts
from defectloc.reporting.charts import calibration_chart, history_charts, precision_recall_chart, rate_chart, roc_chart

LEFT, TOP = charts.LEFT, charts.TOP
RIGHT, BOTTOM = charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM


def points(line):
    return [tuple(float(n) for n in each.split(",")) for each in line.points.split()]


def test_a_roc_curve_goes_from_corner_to_corner():
    chart = roc_chart(np.array([[0, 0], [0.5, 1], [1, 1]]), 0.75)
    assert [line.style for line in chart.lines] == ["guide", "first"]
    assert points(chart.lines[1]) == [(LEFT, BOTTOM), ((LEFT + RIGHT) / 2, TOP), (RIGHT, TOP)]
    assert chart.marker == "roc"
    assert "0.750" in chart.description


def test_precision_keeps_its_value_until_the_next_threshold():
    chart = precision_recall_chart(np.array([[1, 0.5], [0.5, 1]]), 0.75, 0.5)
    assert [y for _, y in points(chart.lines[1])] == [(TOP + BOTTOM) / 2, TOP, TOP]
    assert [x for x, _ in points(chart.lines[1])] == [RIGHT, RIGHT, (LEFT + RIGHT) / 2]


def test_whiskers_hold_their_dots():
    bins = pd.DataFrame({"n": [3], "probability": [0.4], "share": [0.5], "low": [0.2], "high": [0.9]})
    chart = calibration_chart(bins, "in words")
    ((x, y),) = chart.lines[1].dots
    ((whisker, low, high),) = chart.whiskers
    assert whisker == x
    assert high < y < low


def test_a_history_has_two_charts_and_a_single_epoch_a_dot():
    history = pd.DataFrame({"epoch": [1], "train_loss": [0.7], "train_accuracy": [0.5], "validation_loss": [np.nan]})
    loss, accuracy = history_charts(history)
    (line,) = loss.lines
    assert len(line.dots) == 1
    assert "training 0.700" in loss.description
    assert accuracy.y_range == (0, 1.0)
    assert history_charts(pd.DataFrame()) == []


@pytest.mark.parametrize("highest", [1e-9, 0.03, 0.7, 1.0, 9.9, 1234.5])
def test_ticks_are_few_and_reach_the_highest_value(highest):
    ticks = charts._ticks(highest)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 7
    assert ticks[-1] >= highest


def test_what_is_no_number_is_left_out():
    chart = rate_chart("title", "in words", "x", "y")
    chart.add("first", "some", [(0, 0), (0.5, float("nan")), (1, 1)])
    assert len(points(chart.lines[0])) == 2
    chart.add("second", "nothing", [(float("nan"), 0)])
    assert len(chart.lines) == 1
