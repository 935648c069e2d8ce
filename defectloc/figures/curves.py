"""Curves over epochs."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from defectloc.files import atomic


def draw_history(history: pd.DataFrame, path: Path) -> None:
    """Draw loss and accuracy by epoch, training beside validation, from the columns of `history.csv`."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    pairs = (
        ("loss", (("train_loss", "training"), ("validation_loss", "validation"))),
        ("accuracy", (("train_accuracy", "training"), ("validation_balanced_accuracy", "validation (balanced)"))),
    )
    for axes, (name, columns) in zip(figure.subplots(1, 2), pairs, strict=True):
        for (column, label), color in zip(columns, ("#1f5fa8", "#d9822b"), strict=True):
            if column in history and history[column].notna().any():
                axes.plot(history["epoch"], history[column], marker="o", ms=4, label=label, color=color)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def draw_thresholds(table: pd.DataFrame, chosen: float | None, title: str, path: Path) -> None:
    """Draw box F1, box accuracy and false boxes per good image against the threshold of the map.

    `table` has the column `threshold`, one for each score, and `<score>_sd` where there are several folds; `chosen`
    marks the threshold that the run uses.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    lines = (
        (left, "box_f1_30", "box F1, IoU 0.3"),
        (left, "box_f1_50", "box F1, IoU 0.5"),
        (left, "box_accuracy_30", "box accuracy, IoU 0.3"),
        (right, "false_boxes_per_good_image", "false boxes per good image"),
    )
    table = table.sort_values("threshold")
    for number, (axes, name, label) in enumerate(lines):
        if table[name].isna().all():
            continue
        color = f"C{number}"
        axes.plot(table["threshold"], table[name], marker="o", ms=4, label=label, color=color)
        if f"{name}_sd" in table:
            sd = table[f"{name}_sd"].fillna(0)
            axes.fill_between(table["threshold"], table[name] - sd, table[name] + sd, color=color, alpha=0.15, lw=0)
    for axes in (left, right):
        if chosen is not None:
            axes.axvline(chosen, color="black", ls="--", lw=1, label=f"chosen: {chosen:.3g}")
        axes.set(xlabel="threshold of the map", ylim=(0, None))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
