"""What is written of a prediction, in plain types."""

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

from defectloc.inference.prediction import Prediction
from defectloc.localization.boxes import COLUMNS as BOX_COLUMNS

COLUMNS = [
    "path",
    "log_odds",
    "score",
    "probability",
    "predicted",
    "verdict",
    "n_boxes",
    "novelty",
    "unlike_training",
]


def row(name: str, found: Prediction) -> dict[str, Any]:
    """Give the values of an image in plain types; None for what is not known."""
    return {
        "path": name,
        "log_odds": _number(found.log_odds),
        "score": _number(found.score),
        "probability": _number(found.probability),
        "predicted": int(found.predicted),
        "verdict": found.verdict,
        "n_boxes": len(found.boxes),
        "novelty": _number(found.novelty),
        "unlike_training": None if found.unlike_training is None else int(found.unlike_training),
    }


def json_object(name: str, found: Prediction) -> dict[str, Any]:
    """Give the same with the size of the image and its boxes."""
    height, width = found.size
    return row(name, found) | {"height": height, "width": width, "boxes": box_rows(found)}


def box_rows(found: Prediction) -> list[dict[str, int | float]]:
    """Give the values of each box in plain types."""
    return [
        {name: (float if name.startswith("score") else int)(box[name]) for name in BOX_COLUMNS}
        for box in found.boxes.to_dict("records")
    ]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Write rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
