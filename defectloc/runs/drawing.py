"""The figures of a run: what is shown is chosen and read here, painted in `figures/`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from defectloc.data.images import read_image
from defectloc.evaluation.scoring import MapSample
from defectloc.figures import sheet, shortcut
from defectloc.figures.curves import draw_history, draw_thresholds
from defectloc.figures.thumbnails import shrink_boxes, shrink_image, shrink_mask, thumbnail_size
from defectloc.localization.boxes import CORNERS
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import full_colour
from defectloc.localization.normalization import LEAST, Scale, normalize
from defectloc.progress import say_begun
from defectloc.runs.directory import Run
from defectloc.runs.maps import RunMaps
from defectloc.runs.tables import read_boxes, read_history, read_shortcut_table, with_decisions
from defectloc.runs.threshold_curve import COARSE, threshold_curve

# Of maps that a normalisation has given another unit.
NORMALIZED = {
    "minmax": "share of the range of each map",
    "max": "share of the maximum of each map",
    "ivr": "share of the maximum of each map, lowest values removed",
    "good": "standard deviations of good validation images",
    "classes": "0: mean of good validation maps, 1: median score of defective ones",
}
# More make a sheet that nobody scrolls through.
SHEET_IMAGES = 60
# Those that lose most of their log-odds.
SHORTCUT_IMAGES = 4
# Of the anomaly map's colours, in standard deviations of good images.
ANOMALY_SCALE = (1.0, 6.0)


@dataclass(frozen=True)
class Truth:
    """What is known of a test image's defects: boxes `(N, 4)` in native pixels, and the mask at the sheet's size."""

    boxes: NDArray[np.int64]
    mask: NDArray[np.bool_] | None


def draw_run(
    run: Run, maps: RunMaps, metrics: dict[str, Any], decision: Decision, localizer: Localizer, folder: Path
) -> Path:
    """Draw the figures of one localization, whose files lie in `folder`, and of its run; returns the sheet's path.

    `history.png` and `shortcut.png` belong to the fit and to the fusion, and are drawn once for all localizations. A
    localization never changes, so that figures found finished are left as they are.
    """
    figures = folder / "figures"
    if (figures / "test.png").is_file():
        return figures / "test.png"
    say_begun("figures")
    subject = f"{metrics['subset']}, fold {metrics['fold']}"
    history = run.folder / "figures" / "history.png"
    if run.has_class_network and not history.is_file():
        draw_history(read_history(run.folder), history)
    shortcut_figure(run, maps.root, metrics)
    test = with_decisions(maps.split("test"), folder)
    truths = _truths(maps, test)
    if maps.n_masks:
        curve = threshold_curve(maps, test, {path: truth.boxes for path, truth in truths.items()}, localizer)
        unit = _unit(localizer, maps.kind)
        title = f"{subject}: boxes of the test images by the threshold of the {maps.kind} map"
        if len(curve):
            draw_thresholds(curve, localizer.threshold, unit, title, figures / "thresholds.png")
    # Last, since it tells that all are whole.
    _draw_sheet(maps, test, truths, decision, _boxes(folder), f"{subject}: test images", figures / "test.png")
    return figures / "test.png"


def _unit(localizer: Localizer, kind: str) -> str:
    if localizer.normalization == "classes" and localizer.scale_from:
        return f"0: mean of good validation maps, 1: {LEAST:g} of their standard deviations"
    return NORMALIZED.get(localizer.normalization, sheet.UNITS[kind])


def _boxes(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Give the boxes `(N, 4)` of each image that has some."""
    return {str(path): rows[CORNERS].to_numpy(dtype=np.float64) for path, rows in read_boxes(folder).groupby("path")}


def _truths(maps: RunMaps, test: pd.DataFrame) -> dict[str, Truth]:
    """Read each mask of the test images once; images whose truth is not known are left out."""
    truths = {}
    for row in test.itertuples():
        if row.label == 0:
            truths[row.path] = Truth(np.zeros((0, 4), np.int64), None)
            continue
        sample = MapSample(row.path, mask=maps.mask(row), ignored=maps.ignored(row))
        # As for the scores, an image whose defects are all ignored is neither good nor defective.
        if sample.mask is not None and sample.known_boxes is not None and not sample.is_hidden:
            small = shrink_mask(sample.mask, thumbnail_size(row.height, row.width, sheet.SIDE), margin=2)
            truths[row.path] = Truth(sample.known_boxes, small)
    return truths


def _draw_sheet(
    maps: RunMaps,
    test: pd.DataFrame,
    truths: dict[str, Truth],
    decision: Decision,
    boxes: dict[str, NDArray[np.float64]],
    title: str,
    path: Path,
) -> None:
    """Draw the defective test images, the lowest score first, then the good ones that are predicted defective."""
    defective = test[test["label"] == 1].sort_values("score", kind="stable")
    good = test[test["label"] == 0]
    alarms = good[good["predicted"] == 1].sort_values("score", ascending=False, kind="stable")
    n_found = int(defective["predicted"].sum())

    def panel(row: Any) -> sheet.Panel:
        size = thumbnail_size(row.height, row.width, sheet.SIDE)
        image = shrink_image(read_image(maps.root / row.path), size)
        truth = truths.get(row.path)
        return sheet.Panel(
            image=image,
            map=maps.map(row, size),
            boxes=shrink_boxes(boxes.get(row.path, np.zeros((0, 4))), (row.height, row.width), size),
            mask=None if truth is None else truth.mask,
            name=row.path if row.label == 0 else f"{row.path} ({row.defect_type})",
            verdict=decision.describe(row.probability, row.verdict),
            is_right=None if row.verdict == "review" else row.predicted == row.label,
        )

    headings = (
        (
            f"Defective images: {n_found} of {len(defective)} predicted defective, {len(defective) - n_found} missed",
            "lowest score first",
            "There is no defective test image.",
            defective,
        ),
        (
            f"Good images that are predicted defective, false alarms (overkill): {len(alarms)} of {len(good)}",
            "highest score first",
            "There is none.",
            alarms,
        ),
    )
    groups = []
    # Decoding the photographs is most of the time, and leaves the interpreter free.
    with ThreadPoolExecutor(4) as pool:
        for heading, order, empty, rows in headings:
            more = f"; {SHEET_IMAGES} shown" if len(rows) > SHEET_IMAGES else ""
            suffix = f"; {order}{more}" if len(rows) > 1 else ""
            panels = list(pool.map(panel, rows.head(SHEET_IMAGES).itertuples()))
            groups.append(sheet.Group(heading + suffix, panels, empty))
    sheet.draw_sheet(groups, color_scale(maps, test), sheet.UNITS[maps.kind], title, path)


def color_scale(maps: RunMaps, test: pd.DataFrame) -> tuple[float, float]:
    """Give the values of no colour, 0 or what half of the good images' pixels reach, and of full colour."""
    every = np.stack([maps.map(row, COARSE) for row in test.itertuples()])
    good = every[(test["label"] == 0).to_numpy()]
    low = max(0.0, float(np.quantile(good if len(good) else every, 0.5)))
    return low, full_colour(every, low)


def shortcut_figure(run: Run, root: Path, metrics: dict[str, Any]) -> Path | None:
    """Draw the worst cases of the shortcut check unless they are drawn; None where there is nothing to show."""
    if not metrics.get("shortcut"):
        return None
    path = run.maps("fusion").folder / "shortcut.png"
    if not path.is_file():
        _draw_shortcut(run, root, metrics, path)
    return path if path.is_file() else None


def _draw_shortcut(run: Run, root: Path, metrics: dict[str, Any], path: Path) -> None:
    """Draw the defects whose log-odds fall most once normal features replace all but the anomaly."""
    class_maps, anomaly_maps = RunMaps(run, "cam", root), RunMaps(run, "memory", root)
    images = class_maps.split("test").merge(read_shortcut_table(run.product("fusion")), on="path")
    found = images[(images["label"] == 1) & (images["log_odds"] > 0)]
    good = run.images().query("label == 0 and split == 'validation'")["path"]
    if found.empty or good.empty:
        return
    scale = Scale.of_good(run.maps("memory").cells[name] for name in good)
    fall = (found["log_odds"] - found["retained_log_odds"]).sort_values(ascending=False, kind="stable")
    rows: list[shortcut.Counterfactual] = []
    for row in found.loc[fall.index[:SHORTCUT_IMAGES]].itertuples():
        size = thumbnail_size(row.height, row.width, shortcut.SIDE)
        mask = class_maps.mask(row)
        rows.append(
            shortcut.Counterfactual(
                image=shrink_image(read_image(root / row.path), size),
                mask=None if mask is None else shrink_mask(mask, size, margin=3),
                class_map=class_maps.map(row, size),
                anomaly_map=normalize(anomaly_maps.map(row, size), "good", scale),
                name=row.path,
                log_odds=row.log_odds,
                retained_log_odds=row.retained_log_odds,
            )
        )
    top = max(float(np.quantile(np.concatenate([each.class_map.ravel() for each in rows]), 0.99)), 1e-6)
    title = (
        f"{metrics['subset']}, fold {metrics['fold']}, shortcut check: of {len(found)} test images that the class "
        f"network predicts\ndefective, {metrics['shortcut']['retained_share']:.0%} are retained under counterfactual "
        "replacement of all but the anomaly\nby normal features. Below, those that lose most."
    )
    shortcut.draw_shortcut(rows, (0.0, top), ANOMALY_SCALE, title, path)
