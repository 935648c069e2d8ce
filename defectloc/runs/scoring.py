"""The scores of a run's images: decisions, raw maps, boxes, and what the class decision rests on."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from defectloc.config import DecisionConfig
from defectloc.evaluation.image import image_scores, intervals, scores_by_defect_type
from defectloc.evaluation.instance import predicted_regions
from defectloc.evaluation.max_box import MAX_BOX_SIZE
from defectloc.evaluation.scoring import MapSample, score_boxes, score_maps
from defectloc.evaluation.shortcut import shortcut_scores
from defectloc.files import digest_of, read_json, sealed, write_json
from defectloc.localization import guided
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.progress import images_bar
from defectloc.runs.directory import rows_of
from defectloc.runs.maps import RunMaps

# Raised when the code changes what a score means.
VERSION = 1
IMAGE = ("balanced_accuracy", "accuracy", "auroc", "average_precision", "confusion")


def decision_scores(decided: pd.DataFrame, has_review: bool) -> dict[str, Any]:
    """Score the decisions on test images with `label, defect_type, score, predicted, verdict`."""
    arguments = (decided["label"], decided["score"], decided["predicted"])
    types = scores_by_defect_type(list(decided["defect_type"]), decided["label"], decided["predicted"])
    return {
        **image_scores(*arguments),
        "share_to_review": float((decided["verdict"] == "review").mean()) if has_review and len(decided) else None,
        "intervals_95": {name: pair and list(pair) for name, pair in intervals(*arguments).items()},
        "by_defect_type": types.to_dict("records"),
    }


def class_network_scores(images: pd.DataFrame, config: DecisionConfig) -> dict[str, Any]:
    """Score the class network's own decision on the test images, its threshold chosen as the run's."""
    decision = Decision.fit(rows_of(images, "validation"), config)
    decided = decision.apply(rows_of(images, "test"))
    scores = image_scores(decided["label"], decided["score"], decided["predicted"])
    return {name: scores[name] for name in IMAGE}


def map_scores(maps: RunMaps, truth: dict[str, str | None]) -> dict[str, Any]:
    """Score the raw maps of the test images without any threshold; kept beside the maps for this ground truth."""
    made_from = {"version": VERSION, **truth} | ({"guided": guided.VERSION} if maps.guided else {})
    kept = maps.product.folder / f"scores-{digest_of(made_from)[:8]}.json"
    before = read_json(kept)
    if before is not None and before.get("made_from") == made_from and isinstance(before.get("scores"), dict):
        return before["scores"]
    scores = score_maps(_map_samples(maps))
    write_json(kept, sealed({"made_from": made_from, "scores": scores}))
    return scores


def _map_samples(maps: RunMaps) -> Iterator[MapSample]:
    # Without any mask nothing is known of pixels, not even of those of good images.
    rows = list(maps.split("test").itertuples()) if maps.n_masks else []
    without = 0
    with images_bar("scoring maps", len(rows)) as advance:
        for row in rows:
            advance(1)
            mask = maps.mask(row)
            if mask is None:
                without += 1
                continue
            small = maps.map(row, (MAX_BOX_SIZE, MAX_BOX_SIZE)) if row.label else None
            yield MapSample(str(row.path), maps.map(row), mask, maps.ignored(row), small=small)
    if without:
        print(
            f"note: {without} defective test images have no mask and are left out of pixel and box scores",
            file=sys.stderr,
        )


def boxes_and_scores(maps: RunMaps, decided: pd.DataFrame, localizer: Localizer) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Find the boxes of the images that are predicted defective, and score them where the truth is known.

    Returns the table of boxes with `path`, and the scores; each map and mask is made once.
    """
    tables: list[pd.DataFrame] = []
    scores = score_boxes(_box_samples(maps, decided, localizer, tables))
    boxes = [table for table in tables if len(table)]
    columns = ["path", *COLUMNS]
    return (pd.concat(boxes)[columns] if boxes else pd.DataFrame(columns=columns)), scores


def _box_samples(
    maps: RunMaps, decided: pd.DataFrame, localizer: Localizer, tables: list[pd.DataFrame]
) -> Iterator[MapSample]:
    none = pd.DataFrame(columns=COLUMNS, dtype=float)
    with images_bar("boxes", len(decided)) as advance:
        for row in decided.itertuples():
            boxes, regions = none, np.zeros((row.height, row.width), bool)
            if row.predicted:
                native = maps.map(row)
                boxes = localizer.boxes(native)
                tables.append(boxes.assign(path=row.path))
            mask = maps.mask(row) if maps.n_masks else None
            if mask is not None:
                if len(boxes):
                    normalized = localizer.normalized(native)
                    regions = predicted_regions(normalized, localizer.threshold, boxes, localizer.min_area)
                yield MapSample(str(row.path), None, mask, maps.ignored(row), boxes, regions=regions)
            advance(1)


def shortcut(maps: RunMaps, retained: pd.DataFrame, bank_auroc: float | None) -> dict[str, Any]:
    """Score what the class decision rests on in the test images, by the class activation maps and `shortcut.csv`.

    `bank_auroc` is the memory bank's image AUROC on the validation split: a bank that cannot tell defective from good
    images says nothing about the class network.
    """
    test = maps.split("test").merge(retained, on="path", how="left", validate="1:1")
    shares = []
    for row in test.itertuples():
        mask = maps.mask(row) if row.label and row.log_odds > 0 else None
        positive = None if mask is None else maps.map(row).clip(0)
        shares.append(np.nan if positive is None else float(positive[mask].sum() / max(positive.sum(), 1e-9)))
    return {**shortcut_scores(test.assign(on_defect=shares)), "bank_auroc": bank_auroc}
