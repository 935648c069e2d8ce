"""Tables and JSON of a run directory, written atomically and read with a sentence for what cannot be."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from defectloc.errors import DefectlocError
from defectloc.files import write_text

CATALOG, PREDICTIONS = "catalog.csv", "predictions.csv"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; NaN is refused, since what cannot be measured is null."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(path, text.getvalue())


def read_catalog(folder: Path) -> pd.DataFrame:
    """Read `catalog.csv` of a run; raises DefectlocError where it cannot be read as that."""
    text = {"path": str, "defect_type": str, "mask_path": str, "official_split": str, "group": str}
    return _read_csv(folder / CATALOG, text, ["path", "split", "label", "mask_path", "height", "width"])


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read `predictions.csv` of a run; raises DefectlocError where it cannot be read as that."""
    columns = ["path", "split", "label", "log_odds"]
    predictions = _read_csv(folder / PREDICTIONS, {"path": str, "defect_type": str}, columns)
    try:
        return predictions.assign(log_odds=pd.to_numeric(predictions["log_odds"]).astype(float))
    except ValueError as error:
        raise DefectlocError(f"{folder / PREDICTIONS}: a log_odds is no number ({error}).") from error


def _read_csv(path: Path, text: Mapping[str, type], columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dict(text), keep_default_na=False)
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"no column {missing[0]}")
        return table
    except (OSError, ValueError) as error:
        what = " ".join(str(error).split())
        raise DefectlocError(f"{path} cannot be read as a table of a run ({what}); fit it again.") from error
