"""Curves over epochs and thresholds."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from defectloc.figures.curves import draw_history, draw_thresholds

TABLE = pd.DataFrame(
    {
        "threshold": [0.3, 0.1, 0.2],
        "box_f1_30": [0.5, 0.1, 0.4],
        "box_f1_50": [0.3, 0.0, 0.2],
        "box_accuracy_30": [np.nan] * 3,
        "false_boxes_per_good_image": [0.0] * 3,
    }
)


@pytest.fixture
def saved(monkeypatch):
    """The figures that were written."""
    figures = []
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), original(self, *a, **k))[1])
    return figures


def test_the_threshold_in_use_is_marked_and_curves_run_upwards(tmp_path, saved):
    draw_thresholds(TABLE, 0.25, "log-odds of a defect", "part, fold 0", tmp_path / "thresholds.png")
    left, right = saved[0].axes
    assert "threshold in use: 0.25" in [text.get_text() for text in left.get_legend().get_texts()]
    for axes in (left, right):
        assert list(axes.lines[-1].get_xdata()) == [0.25, 0.25]
        assert list(axes.lines[0].get_xdata()) == [0.1, 0.2, 0.3]
    # What could not be measured is not there; what is 0 stands on the axis.
    assert len(left.lines) == 3
    assert right.get_ylim() == (0, 0.1)
    assert "log-odds of a defect" in saved[0].get_supxlabel()


def test_several_folds_have_a_band_and_no_threshold_in_use(tmp_path, saved):
    table = TABLE.assign(box_f1_30_sd=[0.1, np.nan, 0.1])
    draw_thresholds(table, None, "as normalised", "part", tmp_path / "thresholds.png")
    left, _ = saved[0].axes
    assert len(left.collections) == 1
    assert "in use" not in " ".join(text.get_text() for text in left.get_legend().get_texts())


@pytest.mark.parametrize("columns", [["train_loss"], ["train_loss", "validation_loss", "train_accuracy"]])
def test_a_history_without_validation_is_drawn(tmp_path, columns):
    history = pd.DataFrame({"epoch": [1, 2], **{name: [0.5, 0.25] for name in columns}})
    draw_history(history.assign(validation_balanced_accuracy=np.nan), tmp_path / "history.png")
    with Image.open(tmp_path / "history.png") as figure:
        assert figure.size == (960, 384)
