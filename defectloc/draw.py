"""The figures of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.config import DecisionConfig, LocalizationConfig
from defectloc.data.images import read_image
from defectloc.figures.curves import draw_history, draw_thresholds
from defectloc.figures.evidence import Evidence, draw_evidence
from defectloc.figures.sheet import Panel, draw_sheet
from defectloc.heat import RunMaps
from defectloc.localize import boxes_of, decide
from defectloc.runs import HISTORY, Run
from defectloc.score import box_scores

UNITS = {
    "cam": "log-odds of a defect",
    "memory": "distance from good patches",
    "fusion": "standard deviations from good patches, times the probability of a defect",
}
# A sheet with more is too long to look at.
SHEET_IMAGES = 60
# Those whose decision rests least on what is unusual.
EVIDENCE_IMAGES = 4
# In standard deviations of good parts.
UNUSUAL_SCALE = (1.0, 6.0)
CURVE = ("box_f1_30", "box_f1_50", "box_accuracy_30", "false_boxes_per_good_image")


def draw_run(
    run: Run,
    metrics: dict[str, Any],
    localization: LocalizationConfig,
    decision: DecisionConfig,
    root: Path | None = None,
) -> Path:
    """Draw `history.png` once per run, `thresholds.png` and `test.png` for these settings; returns the last."""
    figures = run.folder / "figures"
    if run.has_classes and not (figures / "history.png").is_file():
        draw_history(pd.read_csv(run.folder / HISTORY), figures / "history.png")
    folder = run.folder / "localization" / metrics["localization"]
    maps = RunMaps(run, localization.map, root)
    # Of other settings; there is none where no image is taken for defective.
    (figures / "thresholds.png").unlink(missing_ok=True)
    if maps.n_masks:
        chosen = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))["map_threshold"]
        curve = threshold_curve(maps, localization, decision, chosen)
        if len(curve):
            title = (
                f"{metrics['subset']}, fold {metrics['fold']}: boxes of the {maps.kind} map by threshold, test images"
            )
            draw_thresholds(curve, chosen, title, figures / "thresholds.png")
    if metrics.get("evidence") and not (figures / "evidence.png").is_file():
        _draw_evidence(run, root, metrics, figures / "evidence.png")
    _draw_test(maps, metrics, folder, figures / "test.png")
    return figures / "test.png"


def threshold_curve(
    maps: RunMaps, localization: LocalizationConfig, decision: DecisionConfig, chosen: float
) -> pd.DataFrame:
    """Score the test images' boxes at 20 thresholds around the chosen one; to look at only.

    They lie between the maps' median and the peak that most images reach: a few may reach a hundred times as high.
    """
    test = decide(maps.run, decision)[0].query("split == 'test'")
    suspects = test[test["predicted"] == 1]
    if suspects.empty:
        return pd.DataFrame()
    heats = [maps.normalized(row, localization.normalization) for row in suspects.itertuples()]
    low = min(float(np.median(heat)) for heat in heats)
    if localization.normalization in ("minmax", "max", "ivr"):
        low = 0.0
    rows = []
    high = max(float(np.quantile([heat.max() for heat in heats], 0.75)), 1.2 * chosen)
    for threshold in np.linspace(low, high, 21)[:-1]:
        scores = box_scores(maps, test, boxes_of(maps, test, localization, threshold))
        rows.append({"threshold": threshold, **{name: scores[name] for name in CURVE}})
    return pd.DataFrame(rows)


def _draw_test(maps: RunMaps, metrics: dict[str, Any], folder: Path, path: Path) -> None:
    """Draw the defective test images, the most wrong first, then the good ones taken for defective."""
    decided = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    boxes = pd.read_csv(folder / "boxes.csv")
    test = maps.part("test").drop(columns="probability")
    test = test.merge(decided[["path", "score", "probability", "predicted"]], on="path")
    defective = test[test["label"] == 1].sort_values("score", kind="stable")
    alarms = test[(test["label"] == 0) & (test["predicted"] == 1)].sort_values("score", ascending=False)
    n_found, n_good = int(defective["predicted"].sum()), int((test["label"] == 0).sum())
    groups = []
    for heading, rows in (
        (f"Defective parts: {n_found} of {len(defective)} found, the most wrong first", defective),
        (f"Good parts taken for defective: {len(alarms)} of {n_good}", alarms),
    ):
        more = f" ({SHEET_IMAGES} shown)" if len(rows) > SHEET_IMAGES else ""
        groups.append((heading + more, [_panel(maps, row, boxes) for row in rows.head(SHEET_IMAGES).itertuples()]))
    # No colour for what half of the good parts' cells reach, full colour for the hottest in two hundred of all.
    good = [maps.cells[path].ravel() for path in test.loc[test["label"] == 0, "path"]] or [np.zeros(1)]
    every = np.concatenate([maps.cells[path].ravel() for path in test["path"]])
    scale = (float(np.quantile(np.concatenate(good), 0.5)), float(np.quantile(every, 0.995)))
    draw_sheet(groups, scale, UNITS[maps.kind], f"{metrics['subset']}, fold {metrics['fold']}", path)


def _draw_evidence(run: Run, root: Path | None, metrics: dict[str, Any], path: Path) -> None:
    """Draw the defects found whose log-odds fall most once all that is not unusual is replaced by good parts."""
    of_class, memory = RunMaps(run, "cam", root), RunMaps(run, "memory", root)
    found = of_class.part("test").query("label == 1 and log_odds > 0")
    if found.empty:
        return
    fall = (found["log_odds"] - found["kept_log_odds"]).sort_values(ascending=False, kind="stable")
    rows = []
    for row in found.loc[fall.index[:EVIDENCE_IMAGES]].itertuples():
        image = read_image(of_class.root / row.path)
        maps = of_class.heat(row), memory.normalized(row, "good")
        rows.append(Evidence(image, of_class.mask(row), *maps, row.log_odds, row.kept_log_odds))
    hot = float(np.quantile(np.concatenate([each.class_map.ravel() for each in rows]), 0.99))
    share = metrics["evidence"]["still_found"]
    title = (
        f"{metrics['subset']}, fold {metrics['fold']}: of {len(found)} defects that the class map's log-odds find, "
        f"{share:.0%} are found\nonce all that is not unusual is replaced by good parts; the largest falls:"
    )
    draw_evidence(rows, ((0.0, max(hot, 1e-6)), UNUSUAL_SCALE), title, path)


def _panel(maps: RunMaps, row: Any, boxes: pd.DataFrame) -> Panel:
    of_row = boxes.loc[boxes["path"] == row.path, ["x0", "y0", "x1", "y1"]].to_numpy()
    verdict = f"{'defective' if row.predicted else 'good'}, p = {row.probability:.3f}"
    name = row.path if row.label == 0 else f"{row.path} ({row.defect_type})"
    image = read_image(maps.root / row.path)
    return Panel(image, maps.heat(row), of_row, maps.mask(row), name, verdict, row.predicted == row.label)
