"""`python -m defectloc.localize`: boxes and scores of a finished run; no network, no torch."""

import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from defectloc import cli
from defectloc.config import DecisionConfig, LocalizationConfig, LocalizeSettings
from defectloc.errors import DefectlocError
from defectloc.files import write_text
from defectloc.heat import RunMaps
from defectloc.localization import thresholds
from defectloc.localization.boxes import boxes_on, to_coco
from defectloc.localization.calibration import fit_temperature, probability
from defectloc.localization.scores import Weights, by_good, by_trust, hottest
from defectloc.reporting.tables import print_metrics
from defectloc.runs import Run, write_csv, write_json
from defectloc.score import test_scores, validation_scores

BOX_COLUMNS = ["path", "x0", "y0", "x1", "y1", "score", "score_mean"]


def post_process(
    run: Run, localization: LocalizationConfig, decision: DecisionConfig, root: Path | None = None
) -> dict[str, Any]:
    """Localise and score the test images of a run by one setting; found again when it was done before.

    Returns the content of `metrics.json`. What is chosen or calibrated is chosen on the validation part.
    """
    folder = run.folder / "localization" / _name(localization, decision)
    maps = RunMaps(run, localization.map, root)
    if (folder / "metrics.json").is_file():
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        # Masks may have come, or gone, since, and a fusion may have been made.
        has_evidence = metrics.get("evidence") is not None
        if metrics["n_masks"] == maps.n_masks and has_evidence == ("kept_log_odds" in maps.images):
            return metrics
    started = time.perf_counter()
    images, notes = decide(run, decision)
    cut = _threshold(maps, localization)
    notes |= {"map_threshold": cut.value, "map_threshold_from": cut.sentence}
    if localization.normalization == "good":
        notes |= {"good_mean": maps.good.mean, "good_sd": maps.good.sd}
    boxes = boxes_of(maps, images, localization, cut.value)
    localized = time.perf_counter()
    metrics = test_scores(maps, images, boxes)
    metrics |= {"validation": validation_scores(maps, images, boxes), "localization": folder.name}
    seconds = {"localize": localized - started, "evaluate": time.perf_counter() - localized}
    metrics["seconds"] |= {name: round(value, 3) for name, value in seconds.items()}
    test = images[images["split"] == "test"]
    of_test = boxes[boxes["path"].isin(test["path"])]
    sizes = {row.path: (row.height, row.width) for row in test.itertuples()}
    columns = ["path", "split", "label", "defect_type", "log_odds", "score", "probability", "predicted"]
    columns += ["verdict"] if "verdict" in images else []
    config = OmegaConf.create({"localization": asdict(localization), "decision": asdict(decision)})
    write_csv(folder / "predictions.csv", images[columns])
    write_csv(folder / "boxes.csv", of_test)
    write_json(folder / "boxes.coco.json", to_coco(sizes, of_test, description=f"defectloc, {run.record['subset']}"))
    write_json(folder / "calibration.json", notes)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config))
    # Last, since it marks the folder as whole.
    write_json(folder / "metrics.json", metrics)
    return metrics


def _name(localization: LocalizationConfig, decision: DecisionConfig) -> str:
    chosen = asdict(localization)
    if localization.min_peak is None:
        # Named as before there was one, so that what was done stays done.
        del chosen["min_peak"]
    content = json.dumps([chosen, asdict(decision)], sort_keys=True)
    threshold = f"{localization.threshold:g}" if localization.threshold_from == "fixed" else localization.threshold_from
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{localization.map}-{localization.normalization}-{threshold}-{digest}"


def decide(run: Run, decision: DecisionConfig) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give the run's images with `score`, calibrated `probability`, `predicted` (and `verdict` with a review band).

    The score is log-odds; the second result says how they were found.
    """
    images = run.images()
    score, weights = _score(run, images, decision)
    images = images.assign(score=score)
    held_out = images[images["split"] == "validation"]
    notes: dict[str, Any] = {
        "score_weights": weights.weights,
        "score_bias": weights.bias,
        "score_from": weights.sentence,
        "temperature": 1.0,
        "ece_before": None,
        "ece_after": None,
    }
    if decision.calibrate:
        fitted = fit_temperature(held_out["label"], held_out["score"])
        notes |= {name: value for name, value in asdict(fitted).items() if name != "fallback"}
    images["probability"] = probability(images["score"], notes["temperature"])
    labels, values = held_out["label"], images.loc[held_out.index, "probability"]
    escape, overkill, fallback = decision.max_escape_rate, decision.max_overkill_rate, decision.threshold
    if decision.threshold_from == "fixed":
        chosen = thresholds.Chosen(decision.threshold, "Fixed.")
    elif escape is not None and overkill is not None:
        band = thresholds.review_band(labels, values, escape, overkill, fallback)
        images["verdict"] = band.verdicts(images["probability"])
        notes |= {"review_above": band.low, "defective_above": band.high}
        # What is not passed is stopped, by the machine or by the human.
        chosen = thresholds.Chosen(band.low, band.sentence, band.fallback)
    elif escape is not None:
        chosen = thresholds.by_max_escape_rate(labels, values, escape, fallback)
    elif overkill is not None:
        chosen = thresholds.by_max_overkill_rate(labels, values, overkill, fallback)
    else:
        chosen = thresholds.by_balanced_accuracy(labels, values, fallback)
    _tell(chosen)
    if weights.fallback:
        print(f"note: {weights.sentence}", file=sys.stderr)
    notes |= {"decision_threshold": chosen.value, "decision_threshold_from": chosen.sentence}
    images["predicted"] = (images["probability"] > chosen.value).astype(int)
    return images, notes


def _score(run: Run, images: pd.DataFrame, decision: DecisionConfig) -> tuple[pd.Series, Weights]:
    """Give the log-odds of all images by what the decision rests on, and how they were found."""
    if decision.score == "class":
        run.require_classes()
        return images["log_odds"], Weights([1.0], 0.0, "The classifier's log-odds.")
    kind = str(decision.score)
    cells = run.maps(kind).cells
    hot = pd.Series(hottest(np.stack([cells[path] for path in images["path"]])), index=images.index)
    held_out = images.index[images["split"] == "validation"]
    labels = images.loc[held_out, "label"]
    if kind == "memory":
        weights = by_good(labels, hot[held_out])
        return pd.Series(weights(hot), index=images.index), weights
    log_odds, kept = images["log_odds"], images["kept_log_odds"]
    weights = by_trust(labels, log_odds[held_out], kept[held_out], hot[held_out], run.taught)
    return pd.Series(weights(log_odds, kept, hot), index=images.index), weights


def _threshold(maps: RunMaps, localization: LocalizationConfig) -> thresholds.Chosen:
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
    _tell(chosen)
    return chosen


def _tell(chosen: thresholds.Chosen) -> None:
    if chosen.fallback:
        print(f"note: {chosen.sentence}", file=sys.stderr)


def boxes_of(maps: RunMaps, images: pd.DataFrame, localization: LocalizationConfig, threshold: float) -> pd.DataFrame:
    """Find the boxes of the images that are taken for defective; a good part has no defect to show."""
    tables = [
        boxes_on(maps.normalized(row, localization.normalization), localization, threshold).assign(path=row.path)
        for row in images[images["predicted"] == 1].itertuples()
    ]
    return pd.concat(tables)[BOX_COLUMNS] if tables else pd.DataFrame(columns=BOX_COLUMNS)


def run(settings: LocalizeSettings) -> dict[str, Any]:
    """Post-process a finished run; returns its metrics."""
    from defectloc.draw import draw_run

    finished = Run.open(settings.run)
    root = None if settings.root is None else Path(settings.root).expanduser()
    if root is not None and not root.is_dir():
        raise DefectlocError(f"root={settings.root} does not exist.")
    metrics = post_process(finished, settings.localization, settings.decision, root)
    print_metrics(metrics)
    print(finished.folder / "localization" / metrics["localization"])
    if settings.figures:
        print(f"figure: {draw_run(finished, metrics, settings.localization, settings.decision, root)}")
    return metrics


def main() -> None:
    """Command line."""
    cli.run_command("localize", run)


if __name__ == "__main__":
    main()
