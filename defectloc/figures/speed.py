"""The benchmark in one figure."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from defectloc.files import atomic

ARMS = {
    "case_study": ("the case study's loop", "#8a8a8a"),
    "streaming": ("defectloc without stored features", "#d9822b"),
    "ours": ("defectloc with stored features", "#1f5fa8"),
}


def draw_speed(comparison: pd.DataFrame, sizes: pd.DataFrame, title: str, path: Path) -> None:
    """Draw seconds per task on a logarithmic axis, and the cost of a fold against the number of images.

    `comparison` has `task` and the seconds of the arms, `sizes` has `images` and the same arms.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    at = np.arange(len(comparison))
    for number, (arm, (label, color)) in enumerate(ARMS.items()):
        bars = left.barh(at + (number - 1) * 0.27, comparison[arm], 0.25, label=label, color=color)
        left.bar_label(bars, [_time(value) for value in comparison[arm]], padding=3, fontsize=8)
        right.plot(sizes["images"], sizes[arm], marker="o", ms=4, label=label, color=color)
    left.set(
        xscale="log", title="by task", xlabel="seconds, logarithmic", yticks=at, yticklabels=list(comparison["task"])
    )
    # Room for the number behind the longest bar.
    left.set_xlim(right=float(comparison[list(ARMS)].to_numpy().max()) * 4)
    left.invert_yaxis()
    left.grid(axis="x", alpha=0.3)
    left.set_axisbelow(True)
    right.set(xlabel="training images", ylabel="seconds", title="one fold", ylim=(0, None), xlim=(0, None))
    right.grid(alpha=0.3)
    right.legend(frameon=False)
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _time(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
