"""Line charts for a page: points in the coordinates of an SVG, drawn by a template."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

# In units of the view box.
WIDTH, HEIGHT = 320, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 10, 42
PERCENT_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Line:
    """A line of a chart: its style (`first`, `second` or `guide`), its points as `x,y x,y ...`, dots on them or not."""

    style: str
    label: str
    points: str
    dots: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """A chart in the coordinates of its view box of `WIDTH x HEIGHT`; ticks are (place, text).

    `description` says in words what the picture shows. `whiskers` are (x, y of the low end, y of the high end).
    `marker` names the point that moves with the threshold, if there is one.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: list[Line] = field(default_factory=list)
    whiskers: list[tuple[float, float, float]] = field(default_factory=list)
    marker: str | None = None

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Give the place of a point in the view box."""
        return (
            round(LEFT + _share(x, self.x_range) * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - _share(y, self.y_range) * (HEIGHT - TOP - BOTTOM), 1),
        )

    def add(self, style: str, label: str, points: Iterable[Sequence[float]], dots: bool = False) -> None:
        """Add a line through points (x, y); those that are NaN are left out."""
        placed = [self.place(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        if placed:
            text = " ".join(f"{x:g},{y:g}" for x, y in placed)
            self.lines.append(Line(style, label, text, placed if dots else ()))


def _share(value: float, of: tuple[float, float]) -> float:
    return (value - of[0]) / (of[1] - of[0])


def rate_chart(title: str, description: str, x_label: str, y_label: str, marker: str | None = None) -> Chart:
    """Start a chart whose axes both go from 0 to 100 %."""
    ticks = [(share, f"{100 * share:.0f} %") for share in PERCENT_TICKS]
    return Chart(title, description, x_label, y_label, (0, 1), (0, 1), ticks, ticks, marker=marker)


def roc_chart(points: np.ndarray, auroc: float) -> Chart:
    """Draw a ROC curve from points (share of good images rejected, share of defects caught) `(P, 2)`."""
    text = f"ROC curve: share of defects caught by the share of good parts rejected; area {auroc:.3f}"
    chart = rate_chart(f"ROC, area (AUROC) {auroc:.3f}", text, "good parts rejected", "defects caught", "roc")
    chart.add("guide", "chance", [(0, 0), (1, 1)])
    chart.add("first", "all thresholds", points)
    return chart


def precision_recall_chart(points: np.ndarray, average_precision: float, prevalence: float) -> Chart:
    """Draw precision by recall from points `(P, 2)`; `prevalence` is the precision of chance."""
    text = (
        f"Precision by recall: of the parts rejected the share that is defective, by the share of defects caught; "
        f"average precision {average_precision:.3f}"
    )
    title = f"Precision and recall, average precision {average_precision:.3f}"
    chart = rate_chart(title, text, "defects caught (recall)", "rejected parts that are defective", "precision")
    chart.add("guide", "chance", [(0, prevalence), (1, prevalence)])
    # Precision holds until the next threshold is reached: steps, as average precision sums them.
    steps: list[tuple[float, float]] = []
    for recall, precision in points:
        if steps:
            steps.append((steps[-1][0], precision))
        steps.append((recall, precision))
    chart.add("first", "all thresholds", steps)
    return chart


def calibration_chart(bins: pd.DataFrame, sentence: str) -> Chart:
    """Draw the share of defects in bins of the probability, with its interval, from `image_curves.calibration_bins`."""
    chart = rate_chart("Calibration", sentence, "probability of a defect", "images that are defective")
    chart.add("guide", "right as often as it says", [(0, 0), (1, 1)])
    chart.add("first", "test images", bins[["probability", "share"]].to_numpy(), dots=True)
    for row in bins.itertuples():
        x, low = chart.place(float(row.probability), float(row.low))  # type: ignore[arg-type]
        chart.whiskers.append((x, low, chart.place(0, float(row.high))[1]))  # type: ignore[arg-type]
    return chart


def history_charts(history: pd.DataFrame) -> list[Chart]:
    """Draw loss and accuracy of the class network by epoch from the columns of `history.csv`; none without epochs."""
    if "epoch" not in history or history.empty:
        return []
    lines: dict[str, tuple[tuple[str, str, str], ...]] = {
        "loss": (("train_loss", "first", "training"), ("validation_loss", "second", "validation")),
        "accuracy": (
            ("train_accuracy", "first", "training"),
            ("validation_balanced_accuracy", "second", "validation, balanced accuracy"),
        ),
    }
    return [_history_chart(history, name, columns) for name, columns in lines.items()]


def _history_chart(history: pd.DataFrame, name: str, columns: Iterable[tuple[str, str, str]]) -> Chart:
    known = [each for each in columns if each[0] in history and history[each[0]].notna().any()]
    epochs = history["epoch"].to_numpy(dtype=float)
    values = history[[column for column, _, _ in known]].to_numpy(dtype=float)
    highest = float(np.nanmax(values)) if values.size else 1.0
    is_rate = name == "accuracy"
    ticks = PERCENT_TICKS if is_rate else _ticks(highest)
    span = (epochs.min(), epochs.max()) if len(epochs) > 1 else (epochs[0] - 1, epochs[0] + 1)
    numbers: Any = np.unique(np.linspace(epochs.min(), epochs.max(), min(len(epochs), 6)).round())
    described = ", ".join(f"{label} {history[column].dropna().iloc[-1]:.3f}" for column, _, label in known)
    chart = Chart(
        title=f"Class network: {name}",
        description=f"{name} of the class network by epoch; after the last: {described}",
        x_label="epoch",
        y_label=name,
        x_range=(float(span[0]), float(span[1])),
        y_range=(0, ticks[-1]),
        x_ticks=[(float(number), f"{number:.0f}") for number in numbers],
        y_ticks=[(tick, f"{100 * tick:.0f} %" if is_rate else f"{tick:g}") for tick in ticks],
    )
    for column, style, label in known:
        chart.add(style, label, np.stack([epochs, history[column].to_numpy(dtype=float)], 1), dots=True)
    return chart


def _ticks(highest: float) -> tuple[float, ...]:
    """Give round numbers from 0 to at least the highest value."""
    highest = max(highest, 1e-6)
    step = 10.0 ** math.floor(math.log10(highest))
    step *= next(factor for factor in (0.2, 0.5, 1, 2, 5) if factor * step * 5 >= highest)
    return tuple(round(number * step, 12) for number in range(math.ceil(highest / step) + 1))
