"""The report of one run as a page: its numbers, curves, photographs and the slider over thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from defectloc import __version__
from defectloc.evaluation.image import image_scores
from defectloc.evaluation.image_curves import calibration_bins, precision_recall_points, roc_points
from defectloc.evaluation.operating_points import limits_of, n_limits_below
from defectloc.figures.embedded import color_stops
from defectloc.localization.calibration import expected_calibration_error
from defectloc.localization.decision import Decision
from defectloc.reporting import charts, run_words
from defectloc.reporting.limits_table import limits_content, told_apart
from defectloc.reporting.page import render

OUTCOMES = {(0, 0): "passed", (0, 1): "false alarm", (1, 0): "missed", (1, 1): "caught"}
# For the filters: value, key of the count, title.
FILTERS = (
    ("missed", "fn", "missed"),
    ("false-alarm", "fp", "false alarms"),
    ("caught", "tp", "caught"),
    ("passed", "tn", "passed"),
)


@dataclass(frozen=True)
class Photograph:
    """A test image as the page shows it: data URIs, boxes `(x, y, width, height)` and outline in native pixels.

    `n_boxes` counts those that were found, of which `boxes` may be the first; `peak` is the highest value of the map.
    """

    path: str
    width: int
    height: int
    photograph: str
    heat_map: str
    boxes: Sequence[tuple[int, int, int, int]]
    n_boxes: int
    outline: str
    peak: float


@dataclass(frozen=True)
class Content:
    """All that the page of a run is made from.

    `test` has a row per test image, `path, label, defect_type, score, probability, predicted, verdict`, of which
    `photographs` shows some in their order; `at_limits` are the scores at each of `limits_of(decision)`.
    `class_counts` are (good, defective) images by split, `history` the columns of `history.csv`. `scale` and `unit` are
    those of the heat map's colours, `shortcut_picture` a data URI; `notes` say what could not be fitted.
    """

    key: str
    metrics: Mapping[str, Any]
    decision: Decision
    test: pd.DataFrame
    at_limits: Sequence[Mapping[str, Any]]
    photographs: Sequence[Photograph]
    class_counts: Mapping[str, tuple[int, int]]
    history: pd.DataFrame
    scale: tuple[float, float]
    unit: str
    settings: Mapping[str, Any]
    shortcut_picture: str | None = None
    notes: Sequence[str] = ()


def render_run(content: Content) -> str:
    """Write the report of a run as one HTML page."""
    metrics, decision, test = content.metrics, content.decision, content.test
    drawn = _charts(content)
    types = _types(test, n_limits_below(limits_of(decision)[0], test["score"]), len(content.at_limits))
    points = limits_content(decision, content.at_limits, types, {chart.marker: chart for chart in drawn})
    calibrated = _calibration_note(content)
    return render(
        "run.html",
        content.key,
        "run.js",
        title=f"{metrics['subset']}, fold {metrics['fold']}",
        introduction=run_words.introduction(metrics, content.class_counts, content.settings, content.decision),
        numbers=run_words.numbers(metrics, decision),
        intervals_note=run_words.INTERVALS,
        notes=content.notes,
        points=points,
        own=points["limits"][points["own"]],
        n_test=len(test),
        types=types,
        moving={key: title for key, title in run_words.MOVING.items() if metrics["n_masks"] or "box" not in key},
        charts=drawn,
        size=_size(),
        curves_note=run_words.CURVES,
        chart_notes=[calibrated, *([] if len(content.history) else [run_words.NO_HISTORY])],
        cards=_cards(content, types, points),
        n_hidden=len(test) - len(content.photographs),
        has_masks=bool(metrics["n_masks"]),
        colors=color_stops(),
        unit=content.unit,
        scale_text=f"{content.scale[0]:.3g} or less without colour, {content.scale[1]:.3g} or more brightest",
        outcomes=FILTERS,
        no_boxes=run_words.NO_BOXES,
        shortcut=run_words.shortcut(metrics, content.shortcut_picture),
        scores=run_words.scores(metrics),
        settings=content.settings,
        footer=f"Written by defectloc {__version__}; localization {metrics['localization']}.",
    )


def _types(test: pd.DataFrame, n_below: np.ndarray, n_limits: int) -> list[dict[str, Any]]:
    """Count for each defect type, good first, how many images are decided right at each limit."""
    found = []
    for (label, name), rows in test.assign(n_below=n_below).groupby(["label", "defect_type"], sort=True):
        rejected = [int((rows["n_below"] > number).sum()) for number in range(n_limits)]
        right = rejected if label else [len(rows) - n for n in rejected]
        share = [f"{100 * n / len(rows):.0f} %" for n in right]
        found.append({"name": str(name), "label": int(label), "n": len(rows), "right": right, "share": share})
    return found


def _cards(content: Content, types: Sequence[Mapping[str, Any]], points: Mapping[str, Any]) -> list[dict[str, Any]]:
    of_type = {(each["label"], each["name"]): number for number, each in enumerate(types)}
    limits, _ = limits_of(content.decision)
    rows = content.test.set_index("path", drop=False)
    cards = []
    for picture in content.photographs:
        row: Any = rows.loc[picture.path]
        label, outcome = int(row["label"]), OUTCOMES[int(row["label"]), int(row["predicted"])]
        cards.append(
            {
                **vars(picture),
                "name": picture.path,
                "label": label,
                "type": of_type[label, str(row["defect_type"])],
                "truth": _truth(str(row["defect_type"])) if label else "good",
                "verdict": row["verdict"],
                "outcome": outcome.replace(" ", "-"),
                "badge": outcome,
                "described": content.decision.describe(row["probability"], row["verdict"]),
                "shown": told_apart(float(row["probability"]), [limit.probability for limit in limits]),
                "percent": f"{100 * row['probability']:.2f}",
                "n_limits": int(n_limits_below(limits, [row["score"]])[0]),
                "boxes_text": _boxes_text(picture),
                "peak": f"{picture.peak:.3g}",
            }
        )
    return cards


def _truth(defect_type: str) -> str:
    # A source without types calls all of them that.
    return "defective" if defect_type == "defective" else f"defective: {defect_type}"


def _boxes_text(picture: Photograph) -> str:
    if not picture.n_boxes:
        return run_words.NOTHING_ABOVE
    more = f", {len(picture.boxes)} shown" if picture.n_boxes > len(picture.boxes) else ""
    return f"{picture.n_boxes} box{'' if picture.n_boxes == 1 else 'es'}{more}"


def _charts(content: Content) -> list[charts.Chart]:
    labels, scores = content.test["label"], content.test["score"]
    drawn = []
    ranking = image_scores(labels, scores, None)
    roc, precision = roc_points(labels, scores), precision_recall_points(labels, scores)
    if roc is not None and precision is not None:
        drawn.append(charts.roc_chart(roc, ranking["auroc"]))
        drawn.append(charts.precision_recall_chart(precision, ranking["average_precision"], float(labels.mean())))
    if len(labels):
        drawn.append(charts.calibration_chart(calibration_bins(labels, _calibrated(content)), run_words.CALIBRATION))
    return [*drawn, *charts.history_charts(content.history)]


def _calibrated(content: Content) -> np.ndarray:
    """Give the probabilities at the share of defects for which they were calibrated, that of images alike."""
    return replace(content.decision, prevalence=None).probability(content.test["score"])


def _calibration_note(content: Content) -> str:
    error = expected_calibration_error(content.test["label"], _calibrated(content))
    return run_words.calibration(content.decision, error)


def _size() -> dict[str, int]:
    right, bottom = charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM
    return {
        "width": charts.WIDTH,
        "height": charts.HEIGHT,
        "left": charts.LEFT,
        "right": right,
        "top": charts.TOP,
        "bottom": bottom,
    }
