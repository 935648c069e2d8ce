"""Tables and JSON of a run directory, written atomically and read with a sentence for what cannot be."""

import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from defectloc.errors import DefectlocError
from defectloc.files import read_json, write_text
from defectloc.localization.boxes import CORNERS
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.runs.products import Product

CATALOG, PREDICTIONS, HISTORY, BOXES = "catalog.csv", "predictions.csv", "history.csv", "boxes.csv"
DECISION, LOCALIZER, NOVELTIES, SHORTCUT = "decision.json", "localizer.json", "novelty.csv", "shortcut.csv"
DECIDED = ["score", "probability", "predicted", "verdict"]
T = TypeVar("T")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(path, text.getvalue())


def read_catalog(folder: Path) -> pd.DataFrame:
    """Read `catalog.csv` of a run; raises DefectlocError where it cannot be read as that."""
    text = {"path": str, "defect_type": str, "mask_path": str, "official_split": str, "group": str}
    columns = ["path", "split", "label", "mask_path", "height", "width"]
    return _read_csv(folder / CATALOG, columns, dtype=text, keep_default_na=False)


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read `predictions.csv` of a run; raises DefectlocError where it cannot be read as that."""
    columns = ["path", "split", "label", "log_odds"]
    text = {"path": str, "defect_type": str}
    predictions = _read_csv(folder / PREDICTIONS, columns, dtype=text, keep_default_na=False)
    try:
        return predictions.assign(log_odds=pd.to_numeric(predictions["log_odds"]).astype(float))
    except ValueError as error:
        raise DefectlocError(f"{folder / PREDICTIONS}: a log_odds is no number ({error}).") from error


def are_of(predictions: pd.DataFrame, catalog: pd.DataFrame) -> bool:
    """Tell whether predictions are of the validation and test images of a catalog, with their labels."""
    found, expected = (
        sorted(table[["path", "split", "label"]].itertuples(index=False, name=None))
        for table in (predictions, catalog[catalog["split"].isin(("validation", "test"))])
    )
    return found == expected


def read_history(folder: Path) -> pd.DataFrame:
    """Read `history.csv` of a run, which has no epoch without a class network.

    Raises DefectlocError where it cannot be read as that.
    """
    path = folder / HISTORY
    if path.is_file() and not path.read_bytes().strip():
        return pd.DataFrame({"epoch": []})
    return _read_csv(path, ["epoch"], dtype=defaultdict(lambda: float, epoch=int))


def with_decisions(images: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add `score, probability, predicted, verdict` of a localization to its images.

    Raises DefectlocError where its `predictions.csv` cannot be read as that.
    """
    decided = _read_csv(folder / PREDICTIONS, ["path", *DECIDED], dtype={"path": str}, keep_default_na=False)
    if decided["path"].duplicated().any():
        raise DefectlocError(f"{folder / PREDICTIONS} has an image twice; start the same 'defectloc train' again.")
    return images.merge(decided[["path", *DECIDED]], on="path")


def read_novelty(folder: Path) -> pd.DataFrame:
    """Read `path, novelty` of the held-out images of a memory bank, without a row where none was measured.

    Raises DefectlocError where it cannot be read as that.
    """
    columns = ["path", "novelty"]
    if not (folder / NOVELTIES).is_file():
        return pd.DataFrame(columns=columns)
    return _read_csv(folder / NOVELTIES, columns, dtype={"path": str, "novelty": float}, keep_default_na=False)


def read_shortcut_table(product: Product) -> pd.DataFrame:
    """Read `path, retained_log_odds, retained_area, retained_evidence` of a fusion's shortcut check.

    Raises DefectlocError where it cannot be read.
    """
    path = product.folder / SHORTCUT
    try:
        return pd.read_csv(path, dtype={"path": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DefectlocError(f"{path} cannot be read ({error}); start the same 'defectloc train' again.") from error


def read_boxes(folder: Path) -> pd.DataFrame:
    """Read `boxes.csv` of a localization; raises DefectlocError where it cannot be read as that."""
    return _read_csv(folder / BOXES, ["path", *CORNERS], dtype={"path": str}, keep_default_na=False)


def read_decision(folder: Path) -> Decision:
    """Read how a localization decides; raises DefectlocError where that cannot be read."""
    return _from_json(folder / DECISION, Decision.from_json)


def read_localizer(folder: Path) -> Localizer:
    """Read how a localization cuts a map into boxes; raises DefectlocError where that cannot be read."""
    return _from_json(folder / LOCALIZER, Localizer.from_json)


def _from_json(path: Path, made: Callable[[dict[str, Any]], T]) -> T:
    try:
        return made(read_json(path) or {})
    except (DefectlocError, KeyError, TypeError, ValueError) as error:
        raise DefectlocError(f"{path} cannot be read; start the same 'defectloc train' again.") from error


def _read_csv(path: Path, columns: list[str], **how: Any) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, **how)
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"no column {missing[0]}")
        return table
    except (OSError, ValueError) as error:
        what = " ".join(str(error).split())
        raise DefectlocError(f"{path} cannot be read as a table of a run ({what}); fit it again.") from error
