"""The benchmark in one figure."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from defectloc.files import atomic

ARMS = {
    "case_study": ("the case study's loop", "#8a8a8a"),
    "streaming": ("defectloc without stored features", "#d9822b"),
    "stored": ("defectloc with stored features", "#1f5fa8"),
}


def draw_speed(comparison: pd.DataFrame, stages: pd.DataFrame, title: str, path: Path) -> None:
    """Draw seconds per task on a logarithmic axis, and the stages of a first `train`.

    `comparison` has `task` and the seconds of the arms, `stages` has `stage` and `seconds` in their order.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    at = np.arange(len(comparison))
    for number, (arm, (label, color)) in enumerate(ARMS.items()):
        bars = left.barh(at + (number - 1) * 0.27, comparison[arm], 0.25, label=label, color=color)
        left.bar_label(bars, [_time(value) for value in comparison[arm]], padding=3, fontsize=8)
    left.set(
        xscale="log", title="by task", xlabel="seconds, logarithmic", yticks=at, yticklabels=list(comparison["task"])
    )
    # Room for the number behind the longest bar.
    left.set_xlim(right=float(comparison[list(ARMS)].to_numpy().max()) * 4)
    # Below the axes, since bars of any length lie in them.
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS), frameon=False)
    bars = right.barh(np.arange(len(stages)), stages["seconds"], 0.6, color=ARMS["stored"][1])
    right.bar_label(bars, [_time(value) for value in stages["seconds"]], padding=3, fontsize=8)
    right.set(
        xlabel="seconds",
        title=f"a first train by stage, {_time(stages['seconds'].sum())}",
        yticks=np.arange(len(stages)),
        yticklabels=list(stages["stage"]),
        xlim=(0, float(stages["seconds"].max()) * 1.2),
    )
    for axes in (left, right):
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _time(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
