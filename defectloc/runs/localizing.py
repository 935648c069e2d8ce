"""Post-processing of a finished run: verdicts, boxes and scores of one setting; no network, no torch."""

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from PIL import Image

from defectloc.config import LocalizeSettings, Score
from defectloc.data.masks import read_mask
from defectloc.evaluation.image import image_scores
from defectloc.files import atomic, digest, lock, sealed, write_json, write_text
from defectloc.localization.boxes import to_coco
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.reporting.tables import print_metrics
from defectloc.runs import scoring
from defectloc.runs.directory import LOCK, METRICS, Run, rows_of, whole_metrics
from defectloc.runs.drawing import draw_run
from defectloc.runs.localization_setting import Localization
from defectloc.runs.maps import IGNORE_MASK, is_guided, kept_ignore_mask
from defectloc.runs.products import tiling_of
from defectloc.runs.tables import (
    BOXES,
    DECIDED,
    DECISION,
    LOCALIZER,
    PREDICTIONS,
    read_decision,
    read_localizer,
    write_csv,
)

FILES = (PREDICTIONS, BOXES, "boxes.coco.json", DECISION, LOCALIZER, "config.yaml")
# Instead of the name of an ignore mask.
NO_MASK = "none"
PREDICTION_COLUMNS = ["path", "split", "label", "defect_type", "log_odds", *DECIDED, "novelty"]


def post_process(setting: Localization) -> dict[str, Any]:
    """Localise and score the held-out images of a run by one setting; found again when it was done before.

    Returns the content of `metrics.json`. What is chosen or calibrated is chosen on the validation split.
    """
    folder = setting.folder
    finished = whole_metrics(folder)
    if finished is not None:
        return finished
    started = time.perf_counter()
    run, maps = setting.run, setting.maps
    images = setting.images()
    validation = rows_of(images, "validation")
    class_left_out = setting.class_left_out()
    decision = Decision.fit(validation, setting.decision, class_left_out)
    localizer = setting.localizer()
    decided = decision.apply(images)
    test = rows_of(decided, "test")
    n_unlike = None if test["novelty"].isna().any() else int((test["novelty"] > 1).sum())
    for sentence in notes_of(decision, localizer, n_unlike, len(test)):
        print(f"note: {sentence}", file=sys.stderr)
    boxes, box_scores = scoring.boxes_and_scores(maps, test, localizer)
    localized = time.perf_counter()
    metrics: dict[str, Any] = {
        "subset": run.record["subset"],
        "fold": run.record["fold"],
        "n_train": run.record["n_train"],
        "n_validation": len(validation),
        "n_test": len(test),
        "n_masks": maps.n_masks,
        "n_unlike_training": n_unlike,
        **scoring.decision_scores(test, setting.has_review_band),
        **scoring.map_scores(maps, setting.truth),
        **box_scores,
        "class_network": _class_network(setting),
        "shortcut": setting.shortcut(),
        "calibration": asdict(decision.calibration),
        "validation": _validation_scores(setting, validation, localizer, class_left_out),
        "epochs": run.record["epochs"],
        "localization": folder.name,
        "maps": {kind: product.name for kind, product in setting.products.items()},
    }
    spent = {kind: product.note["seconds"] for kind, product in setting.products.items()}
    spent["predict"] = spent.pop("cam", 0.0)
    spent |= {"localize": round(localized - started, 3), "evaluate": round(time.perf_counter() - localized, 3)}
    metrics["seconds"] = {**run.record["seconds"], **spent}
    _write(setting, decision, localizer, decided, boxes)
    written = [*FILES, *([] if maps.ignore_path is None else [IGNORE_MASK])]
    metrics["files"] = {name: digest(folder / name) for name in written}
    metrics = sealed(metrics)
    # Last, since it marks the folder as whole.
    write_json(folder / METRICS, metrics)
    return metrics


def notes_of(decision: Decision, localizer: Localizer, n_unlike: int | None, n_test: int) -> list[str]:
    """Say what could not be fitted, and how many test images `predict` would not judge."""
    notes = [*decision.messages, *localizer.messages]
    if n_unlike:
        notes.append(
            f"{n_unlike} of {n_test} test images are unlike the training photographs: the scores count their verdicts, "
            "but 'predict' does not judge such photographs (novelty above 1 in predictions.csv)."
        )
    return notes


def _class_network(setting: Localization) -> dict[str, Any] | None:
    if not setting.run.has_class_network:
        return None
    return scoring.class_network_scores(setting.run.images(), replace(setting.decision, score=Score["class"]))


def _validation_scores(
    setting: Localization, validation: pd.DataFrame, localizer: Localizer, class_left_out: str | None
) -> dict[str, Any]:
    """Score the validation split by the same setting, decisions cross-fitted: what a setting may be chosen by."""
    held_out = Decision.cross_fit(validation, setting.decision, class_left_out)
    image = image_scores(held_out["label"], held_out["score"], held_out["predicted"])
    _, box = scoring.boxes_and_scores(setting.maps, held_out, localizer)
    return {name: image[name] for name in ("balanced_accuracy", "auroc")} | {
        name: box[name] for name in ("box_f1_30", "box_f1_50")
    }


def _write(
    setting: Localization, decision: Decision, localizer: Localizer, decided: pd.DataFrame, boxes: pd.DataFrame
) -> None:
    folder, test = setting.folder, rows_of(decided, "test")
    sizes = {str(row.path): (int(row.height), int(row.width)) for row in test.itertuples()}
    config = {
        "localization": asdict(setting.localization),
        "decision": asdict(setting.decision),
        "maps": {kind: product.made_from for kind, product in setting.products.items()},
        "truth": setting.truth,
    }
    write_csv(folder / PREDICTIONS, decided[PREDICTION_COLUMNS])
    write_csv(folder / BOXES, boxes)
    coco = to_coco(sizes, boxes, description=f"defectloc, {setting.run.record['subset']}")
    write_json(folder / "boxes.coco.json", coco)
    write_json(folder / DECISION, decision.to_json())
    write_json(folder / LOCALIZER, localizer.to_json())
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    if setting.maps.ignore_path is not None:
        with atomic(folder / IGNORE_MASK) as temporary:
            Image.fromarray(read_mask(setting.maps.ignore_path)).save(temporary)


def draw(setting: Localization, metrics: dict[str, Any]) -> Path:
    """Draw the figures of one localization; returns the sheet of test images."""
    folder = setting.folder
    return draw_run(setting.run, setting.maps, metrics, read_decision(folder), read_localizer(folder), folder)


def run(settings: LocalizeSettings) -> dict[str, Any]:
    """Post-process a finished run; returns its metrics."""
    finished = Run.open(settings.run)
    root = None
    kind = str(settings.localization.map)
    guided = is_guided(settings.localization.upsampling, tiling_of(finished.product(kind)))
    if settings.root is not None or settings.figures or guided or finished.catalog()["mask_path"].any():
        root = finished.data_root(settings.root)
    with lock(finished.folder / LOCK, f"the same run ({finished.folder})"):
        ignore_mask = _ignore_mask(finished, settings.ignore_mask)
        setting = Localization(finished, settings.localization, settings.decision, root, ignore_mask)
        metrics = post_process(setting)
        figure = draw(setting, metrics) if settings.figures else None
    print_metrics(metrics, read_decision(setting.folder))
    print(setting.folder)
    if figure is not None:
        print(f"figure: {figure}")
    return metrics


def _ignore_mask(run: Run, asked: str | None) -> str | None:
    """Give the ignore mask that is asked for, else the one that the run was trained with."""
    if asked is not None:
        return None if asked == NO_MASK else asked
    kept = kept_ignore_mask(run)
    return None if kept is None else str(kept.absolute())
