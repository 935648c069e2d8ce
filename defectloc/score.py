"""The scores of a run's test images."""

import hashlib
import json
import sys
from typing import Any

import numpy as np
import pandas as pd

from defectloc.evaluation.box import BoxScores, MaxBoxAccV2, pointing_game
from defectloc.evaluation.evidence import evidence_scores
from defectloc.evaluation.image import bootstrap_intervals, image_scores, scores_by_defect_type
from defectloc.evaluation.pixel import PixelScores
from defectloc.heat import RunMaps
from defectloc.localization.boxes import boxes_of_mask
from defectloc.progress import images_bar
from defectloc.runs import maps_name, write_json

# MaxBoxAccV2 is defined on maps of this size.
MAX_BOX_SIZE = 224


def test_scores(maps: RunMaps, images: pd.DataFrame, boxes: pd.DataFrame) -> dict[str, Any]:
    """Score decisions, raw maps and boxes of the test images; the content of `metrics.json` but for its bookkeeping.

    `images` has `label, defect_type, score, predicted` (and `verdict`), `boxes` the columns of `boxes.csv`.
    """
    record = maps.run.record
    test = images[images["split"] == "test"]
    arguments = (test["label"], test["score"], test["predicted"])
    types = scores_by_defect_type(list(test["defect_type"]), test["label"], test["predicted"])
    return {
        "subset": record["subset"],
        "fold": record["fold"],
        "n_train": record["n_train"],
        "n_validation": int((images["split"] == "validation").sum()),
        "n_test": len(test),
        "n_masks": maps.n_masks,
        **image_scores(*arguments),
        **map_scores(maps),
        **box_scores(maps, test, boxes),
        "evidence": evidence(maps),
        "share_to_review": float((test["verdict"] == "review").mean()) if "verdict" in test else None,
        "intervals_95": {name: i and list(i) for name, i in bootstrap_intervals(*arguments).items()},
        "by_defect_type": types.to_dict("records"),
        "epochs": record["epochs"],
        "seconds": dict(record["seconds"]),
    }


def validation_scores(maps: RunMaps, images: pd.DataFrame, boxes: pd.DataFrame) -> dict[str, Any]:
    """Score the validation part by the same setting: what a setting may be chosen by."""
    part = images[images["split"] == "validation"]
    image = image_scores(part["label"], part["score"], part["predicted"])
    box = box_scores(maps, part, boxes)
    return {name: image[name] for name in ("balanced_accuracy", "auroc")} | {
        name: box[name] for name in ("box_f1_30", "box_f1_50")
    }


def evidence(maps: RunMaps) -> dict[str, Any] | None:
    """Score what the class decision rests on in the test images; None for a run without a fusion."""
    if "kept_log_odds" not in maps.images:
        return None
    of_class = RunMaps(maps.run, "cam", maps.root)
    test = of_class.part("test")
    shares = []
    for row in test.itertuples():
        mask = of_class.mask(row) if row.label and row.log_odds > 0 else None
        heat = None if mask is None else of_class.heat(row).clip(0)
        shares.append(np.nan if heat is None else float(heat[mask].sum() / max(heat.sum(), 1e-9)))
    return evidence_scores(test.assign(on_defect=shares))


def map_scores(maps: RunMaps) -> dict[str, Any]:
    """Score the raw maps of the test images without any threshold; done once per map and kept in the run."""
    content = (maps.run.folder / maps_name(maps.kind)).read_bytes()
    key = f"{hashlib.sha256(content).hexdigest()} {maps.n_masks}"
    kept = maps.run.folder / f"scores.{maps.kind}.json"
    if kept.is_file():
        before = json.loads(kept.read_text(encoding="utf-8"))
        if before.get("key") == key:
            return before["scores"]
    pixels, best_boxes, hits = PixelScores(), MaxBoxAccV2(), []
    rows = list(maps.part("test").itertuples()) if maps.n_masks else []
    without = 0
    with images_bar("scoring maps", len(rows)) as advance:
        for row in rows:
            advance(1)
            mask = maps.mask(row)
            if mask is None:
                without += 1
                continue
            heat = maps.heat(row)
            pixels.add(heat, mask, maps.ignored(row))
            if mask.any():
                hits.append(pointing_game(heat, mask))
                scale = np.array([MAX_BOX_SIZE / heat.shape[1], MAX_BOX_SIZE / heat.shape[0]] * 2)
                best_boxes.add(maps.heat(row, (MAX_BOX_SIZE, MAX_BOX_SIZE)), boxes_of_mask(mask) * scale)
    if without:
        print(
            f"note: {without} defective test images have no mask and are left out of pixel and box scores",
            file=sys.stderr,
        )
    scores = {**pixels.compute(), "pointing_game": float(np.mean(hits)) if hits else None, **best_boxes.compute()}
    write_json(kept, {"key": key, "scores": scores})
    return scores


def box_scores(maps: RunMaps, rows: pd.DataFrame, boxes: pd.DataFrame) -> dict[str, Any]:
    """Score boxes against those around the components of the masks; images without a known mask are left out."""
    scores = BoxScores()
    by_path = dict(iter(boxes.groupby("path")))
    none = boxes.iloc[:0]
    for row in rows.itertuples():
        mask = maps.mask(row)
        if mask is not None:
            scores.add(row.path, by_path.get(row.path, none), boxes_of_mask(mask), mask.shape)
    return scores.compute()
