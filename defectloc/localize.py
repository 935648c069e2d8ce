"""`python -m defectloc.localize`: boxes and scores of a finished run; no network, no torch."""

import hashlib
import json
import sys
import time
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from defectloc import cli
from defectloc.config import DecisionConfig, LocalizationConfig, LocalizeSettings
from defectloc.data.images import read_image, read_mask
from defectloc.errors import DefectlocError
from defectloc.evaluation.box import BoxScores, MaxBoxAccV2, pointing_game
from defectloc.evaluation.image import bootstrap_intervals, image_scores, scores_by_defect_type
from defectloc.evaluation.pixel import PixelScores
from defectloc.figures.sheet import Panel, draw_sheet
from defectloc.files import write_text
from defectloc.localization import thresholds
from defectloc.localization.boxes import boxes_of_mask, find_boxes, to_coco
from defectloc.localization.calibration import fit_temperature, probability
from defectloc.localization.maps import Grid, upsample
from defectloc.localization.normalization import GoodStatistics, normalize
from defectloc.progress import images_bar
from defectloc.reporting.tables import print_metrics
from defectloc.runs import Run, maps_name, write_csv, write_json

# MaxBoxAccV2 is defined on maps of this size.
MAX_BOX_SIZE = 224
# A sheet with more is too long to look at.
SHEET_IMAGES = 60
BOX_COLUMNS = ["path", "x0", "y0", "x1", "y1", "score", "score_mean"]


class Maps:
    """The maps of a run's images at native resolution, made when asked for."""

    def __init__(self, run: Run, kind: str, root: Path) -> None:
        self.run, self.kind, self.root = run, kind, root
        self.images = run.images()
        self.cells = run.maps(kind)
        self.grid = Grid(*run.record["grid"])
        self.image_size = int(run.record["settings"]["data"]["image_size"])

    @cached_property
    def good(self) -> GoodStatistics:
        """Statistics of the good validation images."""
        of_good = self.part("validation").query("label == 0")
        return GoodStatistics.from_maps([self.cells[path] for path in of_good["path"]])

    def part(self, name: str) -> pd.DataFrame:
        """Give the rows of 'validation' or 'test'."""
        return self.images[self.images["split"] == name]

    def heat(self, row: Any, size: tuple[int, int] | None = None) -> np.ndarray:
        """Give the map of one row at native resolution, or at `size`."""
        return upsample(self.cells[row.path], size or (row.height, row.width), self.image_size, self.grid)

    def normalized(self, row: Any, method: str) -> np.ndarray:
        """Give the normalised map of one row at native resolution."""
        return normalize(self.heat(row), method, good=self.good if method == "good" else None)

    @cached_property
    def n_masks(self) -> int:
        """Count the test images with a mask file."""
        return sum(bool(name) and (self.root / name).is_file() for name in self.part("test")["mask_path"])

    def mask(self, row: Any) -> np.ndarray | None:
        """Give the ground truth of one row at native resolution; None where a defective image has none."""
        if row.label == 0:
            return np.zeros((row.height, row.width), bool)
        if not row.mask_path or not (self.root / row.mask_path).is_file():
            return None
        return read_mask(self.root / row.mask_path, (row.height, row.width))


def post_process(
    run: Run, localization: LocalizationConfig, decision: DecisionConfig, root: Path | None = None
) -> dict[str, Any]:
    """Localise and score the test images of a run by one setting; found again when it was done before.

    Returns the content of `metrics.json`. What is chosen or calibrated is chosen on the validation part.
    """
    folder = run.folder / "localization" / _name(localization, decision)
    metrics_path = folder / "metrics.json"
    maps = Maps(run, localization.map, root or Path(run.record["root"]))
    if metrics_path.is_file():
        metrics = json.loads(metrics_path.read_text(encoding="utf-8"))
        # Masks may have come, or gone, since.
        if metrics["n_masks"] == maps.n_masks:
            return metrics
    started = time.perf_counter()
    images, calibration = _decide(maps.images, decision)
    cut = _threshold(maps, localization)
    calibration |= {"map_threshold": cut.value, "map_threshold_from": cut.sentence}
    if localization.normalization == "good":
        calibration |= {"good_mean": maps.good.mean, "good_sd": maps.good.sd}
    test = images[images["split"] == "test"]
    boxes = _boxes(maps, test, localization, cut.value)
    localized = time.perf_counter()
    metrics = _metrics(maps, images, boxes)
    metrics["localization"] = folder.name
    metrics["seconds"] |= {
        "localize": round(localized - started, 3),
        "evaluate": round(time.perf_counter() - localized, 3),
    }
    columns = ["path", "split", "label", "defect_type", "log_odds", "probability", "predicted"]
    columns += ["verdict"] if "verdict" in images else []
    write_csv(folder / "predictions.csv", images[columns])
    write_csv(folder / "boxes.csv", boxes)
    sizes = {row.path: (row.height, row.width) for row in test.itertuples()}
    write_json(folder / "boxes.coco.json", to_coco(sizes, boxes, description=f"defectloc, {run.record['subset']}"))
    write_json(folder / "calibration.json", calibration)
    write_text(
        folder / "config.yaml",
        OmegaConf.to_yaml(OmegaConf.create({"localization": asdict(localization), "decision": asdict(decision)})),
    )
    # Last, since it marks the folder as whole.
    write_json(metrics_path, metrics)
    return metrics


def _name(localization: LocalizationConfig, decision: DecisionConfig) -> str:
    content = json.dumps([asdict(localization), asdict(decision)], sort_keys=True)
    threshold = f"{localization.threshold:g}" if localization.threshold_from == "fixed" else localization.threshold_from
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{localization.map}-{localization.normalization}-{threshold}-{digest}"


def _decide(images: pd.DataFrame, decision: DecisionConfig) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Add `predicted` (and `verdict` with a review band), and say how that was decided."""
    validation = images[images["split"] == "validation"]
    notes: dict[str, Any] = {"temperature": 1.0, "ece_before": None, "ece_after": None}
    temperature = 1.0
    if decision.calibrate:
        fitted = fit_temperature(validation["label"], validation["log_odds"])
        temperature = fitted.temperature
        notes = {k: v for k, v in asdict(fitted).items() if k != "fallback"}
    scores = probability(images["log_odds"], temperature)
    images = images.assign(probability=scores)
    labels, values = validation["label"], scores[(images["split"] == "validation").to_numpy()]
    if decision.threshold_from == "fixed":
        chosen = thresholds.Chosen(decision.threshold, "Fixed.")
    elif decision.max_escape_rate is not None and decision.max_overkill_rate is not None:
        band = thresholds.review_band(
            labels, values, decision.max_escape_rate, decision.max_overkill_rate, decision.threshold
        )
        images = images.assign(verdict=band.verdicts(scores))
        notes |= {"review_above": band.low, "defective_above": band.high}
        # What is not passed is stopped, by the machine or by the human.
        chosen = thresholds.Chosen(band.low, band.sentence, band.fallback)
    elif decision.max_escape_rate is not None:
        chosen = thresholds.by_max_escape_rate(labels, values, decision.max_escape_rate, decision.threshold)
    elif decision.max_overkill_rate is not None:
        chosen = thresholds.by_max_overkill_rate(labels, values, decision.max_overkill_rate, decision.threshold)
    else:
        chosen = thresholds.by_balanced_accuracy(labels, values, decision.threshold)
    if chosen.fallback:
        print(f"note: {chosen.sentence}", file=sys.stderr)
    notes |= {"decision_threshold": chosen.value, "decision_threshold_from": chosen.sentence}
    return images.assign(predicted=(scores > chosen.value).astype(int)), notes


def _threshold(maps: Maps, localization: LocalizationConfig) -> thresholds.Chosen:
    method, fallback = localization.normalization, localization.threshold
    validation = maps.part("validation")
    if localization.threshold_from == "fixed":
        return thresholds.Chosen(localization.threshold, "Fixed.")
    if localization.threshold_from == "good_quantile":
        good = (maps.normalized(row, method) for row in validation.query("label == 0").itertuples())
        chosen = thresholds.good_quantile(good, localization.quantile, fallback)
    elif localization.use_masks:
        rows = [(row, maps.mask(row)) for row in validation.itertuples()]
        known = [(row, mask) for row, mask in rows if mask is not None]
        heats = [maps.normalized(row, method) for row, _ in known]
        chosen = thresholds.from_masks(heats, [mask for _, mask in known], fallback)
    else:
        heats = [maps.normalized(row, method) for row in validation.itertuples()]
        chosen = thresholds.from_labels(heats, validation["label"], fallback)
    if chosen.fallback:
        print(f"note: {chosen.sentence}", file=sys.stderr)
    return chosen


def boxes_on(heat: np.ndarray, localization: LocalizationConfig, threshold: float) -> pd.DataFrame:
    """Find the boxes on a normalised map at native resolution as the configuration says."""
    return find_boxes(
        heat,
        threshold,
        localization.boxes,
        min_area=localization.min_area,
        max_boxes=localization.max_boxes,
        merge_distance=localization.merge_distance,
    )


def _boxes(maps: Maps, test: pd.DataFrame, localization: LocalizationConfig, threshold: float) -> pd.DataFrame:
    """Find the boxes of the images that are taken for defective; a good part has no defect to show."""
    tables = []
    for row in test[test["predicted"] == 1].itertuples():
        heat = maps.normalized(row, localization.normalization)
        tables.append(boxes_on(heat, localization, threshold).assign(path=row.path))
    return pd.concat(tables)[BOX_COLUMNS] if tables else pd.DataFrame(columns=BOX_COLUMNS)


def _metrics(maps: Maps, images: pd.DataFrame, boxes: pd.DataFrame) -> dict[str, Any]:
    record = maps.run.record
    test = images[images["split"] == "test"]
    arguments = (test["label"], test["log_odds"], test["predicted"])
    metrics: dict[str, Any] = {
        "subset": record["subset"],
        "fold": record["fold"],
        "n_train": record["n_train"],
        "n_validation": int((images["split"] == "validation").sum()),
        "n_test": len(test),
        "n_masks": maps.n_masks,
        **image_scores(*arguments),
        **_map_scores(maps),
        **_box_scores(maps, test, boxes),
    }
    metrics["intervals_95"] = bootstrap_intervals(*arguments)
    metrics["by_defect_type"] = scores_by_defect_type(
        list(test["defect_type"]), test["label"], test["predicted"]
    ).to_dict("records")
    if "verdict" in test:
        metrics["share_to_review"] = float((test["verdict"] == "review").mean())
    metrics["epochs"] = record["epochs"]
    metrics["seconds"] = dict(record["seconds"])
    return metrics


def _map_scores(maps: Maps) -> dict[str, Any]:
    """Score the raw maps of the test images without any threshold; done once per map and kept."""
    source = maps.run.folder / maps_name(maps.kind)
    key = f"{hashlib.sha256(source.read_bytes()).hexdigest()} {maps.n_masks}"
    kept = maps.run.folder / f"scores.{maps.kind}.json"
    if kept.is_file():
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content.get("key") == key:
            return content["scores"]
    test = maps.part("test")
    masked = [row for row in test.itertuples() if maps.mask(row) is not None]
    pixels, best_boxes, hits = PixelScores(), MaxBoxAccV2(), []
    if len(masked) < len(test) and any(row.label for row in masked):
        print(
            f"note: {len(test) - len(masked)} defective test images have no mask and are left out of pixel and box "
            "scores",
            file=sys.stderr,
        )
    if any(row.label for row in masked):
        with images_bar("scoring maps", len(masked)) as advance:
            for row in masked:
                mask = maps.mask(row)
                assert mask is not None
                heat = maps.heat(row)
                pixels.add(heat, mask)
                if row.label and mask.any():
                    hits.append(pointing_game(heat, mask))
                    scale = np.array([MAX_BOX_SIZE / row.width, MAX_BOX_SIZE / row.height] * 2)
                    best_boxes.add(maps.heat(row, (MAX_BOX_SIZE, MAX_BOX_SIZE)), boxes_of_mask(mask) * scale)
                advance(1)
    scores = {
        **pixels.compute(),
        "pointing_game": float(np.mean(hits)) if hits else None,
        **best_boxes.compute(),
    }
    write_json(kept, {"key": key, "scores": scores})
    return scores


def _box_scores(maps: Maps, test: pd.DataFrame, boxes: pd.DataFrame) -> dict[str, Any]:
    scores = BoxScores()
    for row in test.itertuples():
        mask = maps.mask(row)
        if mask is not None:
            scores.add(row.path, boxes[boxes["path"] == row.path], boxes_of_mask(mask), (row.height, row.width))
    return scores.compute()


def draw_test(run: Run, metrics: dict[str, Any], root: Path | None = None) -> Path:
    """Draw the defective test images, the most wrong first, then the good ones taken for defective."""
    folder = run.folder / "localization" / metrics["localization"]
    kind = metrics["localization"].partition("-")[0]
    maps = Maps(run, kind, root or Path(run.record["root"]))
    decided = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    boxes = pd.read_csv(folder / "boxes.csv")
    test = maps.part("test").merge(decided[["path", "predicted"]], on="path")
    defective = test[test["label"] == 1].sort_values("log_odds", kind="stable")
    alarms = test[(test["label"] == 0) & (test["predicted"] == 1)].sort_values("log_odds", ascending=False)

    def panels(rows: pd.DataFrame) -> list[Panel]:
        return [_panel(maps, row, boxes) for row in rows.head(SHEET_IMAGES).itertuples()]

    missed = int((defective["predicted"] == 0).sum())
    groups = [
        (
            f"Defective parts: {len(defective) - missed} of {len(defective)} found, the most wrong first"
            f"{_shown(defective)}",
            panels(defective),
        )
    ]
    n_good = int((test["label"] == 0).sum())
    groups.append((f"Good parts taken for defective: {len(alarms)} of {n_good}{_shown(alarms)}", panels(alarms)))
    # No colour for what half of the good parts' cells reach, full colour for the hottest in two hundred of all.
    good = np.concatenate([maps.cells[path].ravel() for path in test.loc[test["label"] == 0, "path"]] or [np.zeros(1)])
    every = np.concatenate([maps.cells[path].ravel() for path in test["path"]])
    scale = (float(np.quantile(good, 0.5)), float(np.quantile(every, 0.995)))
    path = run.folder / "figures" / "test.png"
    draw_sheet(groups, scale, "log-odds of a defect", f"{metrics['subset']}, fold {metrics['fold']}", path)
    return path


def _shown(rows: pd.DataFrame) -> str:
    return f" ({SHEET_IMAGES} shown)" if len(rows) > SHEET_IMAGES else ""


def _panel(maps: Maps, row: Any, boxes: pd.DataFrame) -> Panel:
    of_row = boxes.loc[boxes["path"] == row.path, ["x0", "y0", "x1", "y1"]].to_numpy()
    verdict = f"{'defective' if row.predicted else 'good'}, p = {row.probability:.3f}"
    name = row.path if row.label == 0 else f"{row.path} ({row.defect_type})"
    image = read_image(maps.root / row.path)
    right = bool(row.predicted) == bool(row.label)
    return Panel(image, maps.heat(row), of_row, maps.mask(row), name, verdict, right)


def run(settings: LocalizeSettings) -> dict[str, Any]:
    """Post-process a finished run; returns its metrics."""
    finished = Run.open(settings.run)
    root = None if settings.root is None else Path(settings.root).expanduser()
    if root is not None and not root.is_dir():
        raise DefectlocError(f"root={settings.root} does not exist.")
    metrics = post_process(finished, settings.localization, settings.decision, root)
    print_metrics(metrics)
    print(finished.folder / "localization" / metrics["localization"])
    if settings.figures:
        print(f"figure: {draw_test(finished, metrics, root)}")
    return metrics


def main() -> None:
    """Command line."""
    cli.run_command("localize", run)


if __name__ == "__main__":
    main()
