"""A run directory written by hand: maps of 5 x 5 cells over images of 10 x 10 pixels, so that boxes can be counted."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from defectloc.config import DecisionConfig, LocalizationConfig, Score
from defectloc.files import digest
from defectloc.runs import directory, localizing, products, tables
from defectloc.runs.directory import Run
from defectloc.runs.localization_setting import Localization
from defectloc.runs.products import Product

# The settings of the case study, for commands whose defaults need more than a run by hand has.
CASE_STUDY = [
    "localization=cam",
    "localization.normalization=minmax",
    "localization.threshold=0.8",
    "decision.threshold_from=fixed",
    "decision.calibrate=false",
]
GRID = (2.0, 0.5)  # each cell is a square of 2 x 2 pixels of an image of image_size x image_size


def cells(hot: dict[tuple[int, int], float], cold: float = -1.0) -> np.ndarray:
    """A map of 5 x 5 cells, cold but for some."""
    values = np.full((5, 5), cold, np.float32)
    for place, value in hot.items():
        values[place] = value
    return values


def write_run(
    folder: Path,
    images: list[dict],
    *,
    epochs: int = 3,
    fold: int = 0,
    fingerprint: str = "abc",
    made_from: dict | None = None,
) -> Run:
    """Write a finished run of 10 x 10 images; each has `path, split, label, cells` and, where known, `mask`."""
    root = folder / "data"
    rows = []
    for image in images:
        path = root / image["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 10, 3), 90, np.uint8)).save(path)
        mask_path = ""
        if image.get("mask") is not None:
            mask_path = f"masks/{image['path']}"
            (root / mask_path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(image["mask"], 255, 0).astype(np.uint8)).save(root / mask_path)
        log_odds = float(image["cells"].astype(np.float64).mean())
        rows.append(
            {
                "path": image["path"],
                "split": image["split"],
                "label": image["label"],
                "defect_type": "scratch" if image["label"] else "good",
                "mask_path": mask_path,
                "digest": digest(path),
                "height": 10,
                "width": 10,
                "log_odds": log_odds,
            }
        )
    table = pd.DataFrame(rows)
    run = folder / "outputs" / "part" / f"fold{fold}-{fingerprint}"
    tables.write_csv(run / tables.CATALOG, table.drop(columns=["log_odds"]))
    tables.write_csv(run / tables.PREDICTIONS, table[["path", "split", "label", "defect_type", "log_odds"]])
    product = Product(run, "cam", {"version": 1, **(made_from or {})})
    with product.making() as note:
        cells_ = np.stack([image["cells"] for image in images])
        products.write_maps(product.folder / products.MAPS, list(table["path"]), cells_, GRID)
        note["seconds"] = 1.0
    (run / directory.CHECKPOINT).write_bytes(b"")
    (run / tables.HISTORY).write_text(
        "epoch,train_loss,train_accuracy,validation_loss,validation_balanced_accuracy\n1,1,1,,\n"
    )
    record = {
        "format": directory.FORMAT,
        "fingerprint": fingerprint,
        "subset": "part",
        "fold": fold,
        "root": str(root),
        "n_train": 7,
        "epochs": epochs,
        "seconds": {"features": 1.0, "fit": 1.0},
        "settings": {
            "experiment": None,
            "model": {"name": "vgg16"},
            "data": {"image_size": 10},
        },
        "image_size": 10,
    }
    (run / directory.RECORD).write_text(json.dumps(record))
    return Run.open(run)


def square(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A mask of 10 x 10 pixels."""
    mask = np.zeros((10, 10), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def five_images() -> list[dict]:
    """Two defects found, one of them in two places, one missed; good parts on both sides of the split."""
    nothing = cells({}, cold=-2.0)
    return [
        {"path": "bad/0.png", "split": "test", "label": 1, "cells": cells({(0, 0): 90.0}), "mask": square(0, 0, 2, 2)},
        {
            "path": "bad/1.png",
            "split": "test",
            "label": 1,
            "cells": cells({(0, 0): 80.0, (4, 4): 90.0}),
            "mask": square(0, 0, 2, 2) | square(8, 8, 10, 10),
        },
        {"path": "bad/2.png", "split": "test", "label": 1, "cells": nothing, "mask": square(4, 4, 6, 6)},
        {"path": "good/0.png", "split": "test", "label": 0, "cells": nothing},
        {"path": "good/1.png", "split": "validation", "label": 0, "cells": cells({(2, 2): 0.5}, cold=-2.0)},
        {"path": "good/2.png", "split": "validation", "label": 0, "cells": cells({(1, 1): 0.1}, cold=-2.5)},
        {
            "path": "bad/3.png",
            "split": "validation",
            "label": 1,
            "cells": cells({(1, 1): 99.0}),
            "mask": square(2, 2, 4, 4),
        },
    ]


def post_process(
    run: Run, localization: dict | None = None, decision: dict | None = None, ignore_mask: str | None = None
) -> dict:
    """Localise by hand: the case study's settings but for some keys."""
    values = {"map": "cam", "normalization": "minmax", "threshold": 0.8, "boxes": "single", "min_peak": None}
    where = LocalizationConfig(**values | (localization or {}))
    fixed = {"score": Score["class"], "threshold_from": "fixed", "calibrate": False}
    return localizing.post_process(
        Localization(run, where, DecisionConfig(**fixed | (decision or {})), None, ignore_mask)
    )


def localized(run: Run, metrics: dict) -> Path:
    """The folder of a localization."""
    return run.folder / "localization" / metrics["localization"]
