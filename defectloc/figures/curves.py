"""Curves: a fit by its epochs, boxes by the threshold."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from defectloc.files import atomic

TRAINING, VALIDATION = "#1f5fa8", "#d9822b"


def draw_history(history: pd.DataFrame, path: Path) -> None:
    """Draw loss and accuracy by epoch, training beside validation, from the columns of `history.csv`."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    pairs = (
        ("loss", (("train_loss", "training"), ("validation_loss", "validation"))),
        (
            "accuracy",
            (
                ("train_accuracy", "training accuracy"),
                ("validation_balanced_accuracy", "validation, balanced accuracy"),
            ),
        ),
    )
    for axes, (name, columns) in zip(figure.subplots(1, 2), pairs, strict=True):
        for (column, label), color in zip(columns, (TRAINING, VALIDATION), strict=True):
            if column in history and history[column].notna().any():
                axes.plot(history["epoch"], history[column], marker="o", ms=4, label=label, color=color)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def draw_thresholds(table: pd.DataFrame, chosen: float | None, unit: str, title: str, path: Path) -> None:
    """Draw box F1, box accuracy and false boxes per good image against the threshold of the map, in `unit`.

    `table` has the column `threshold`, one for each score, and `<score>_sd` where there are several folds; `chosen`
    marks the threshold that the run uses.
    """
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    table = table.sort_values("threshold")
    lines = (
        (left, "box_f1_30", "box F1 at IoU 0.3"),
        (left, "box_f1_50", "box F1 at IoU 0.5"),
        (left, "box_accuracy_30", "box accuracy at IoU 0.3"),
        (right, "false_boxes_per_good_image", None),
    )
    for number, (axes, name, label) in enumerate(lines):
        _line(axes, table, name, label, f"C{number}")
    for axes in (left, right):
        if chosen is not None:
            axes.axvline(chosen, color="black", ls="--", lw=1, label=f"threshold in use: {chosen:.3g}")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    left.set(title="boxes against the true ones: higher is better", ylim=(0, 1.02))
    right.set(title="false boxes per good image: lower is better")
    # A curve that is flat at 0 would else lie in the middle of an axis from below 0 on.
    highest = pd.to_numeric(table["false_boxes_per_good_image"]).fillna(0).max()
    right.set_ylim(0, max(1.1 * float(highest), 0.1))
    figure.supxlabel(f"threshold of the map ({unit})", fontsize=10)
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _line(axes: Axes, table: pd.DataFrame, name: str, label: str | None, color: str) -> None:
    values = pd.to_numeric(table[name])
    if values.isna().all():
        return
    axes.plot(table["threshold"], values, marker="o", ms=4, label=label, color=color)
    if f"{name}_sd" in table:
        sd = table[f"{name}_sd"].fillna(0)
        axes.fill_between(table["threshold"], values - sd, values + sd, color=color, alpha=0.15, lw=0)
