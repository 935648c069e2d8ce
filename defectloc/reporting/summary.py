"""Runs grouped by setting: mean and sd over folds, pooled counts, beside the case study's published row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.reporting.labels import Settings, labels

# Reported by the case study, one 80/20 split per subset: balanced accuracy.
CASE_STUDY = {"hazelnut": 0.953, "leather": 0.921, "cable": 0.889, "toothbrush": 0.833, "pill": 0.817}
SCORES = [
    "balanced_accuracy",
    "accuracy",
    "auroc",
    "average_precision",
    "f1_max",
    "pixel_auroc",
    "pixel_ap",
    "aupro",
    "pointing_game",
    "max_box_acc_v2",
    "box_accuracy_30",
    "box_f1_30",
    "box_f1_50",
    "false_boxes_per_good_image",
    "class_network.balanced_accuracy",
    "class_network.auroc",
    "shortcut.retained_share",
    "shortcut.on_defect",
    "validation.balanced_accuracy",
    "validation.box_f1_30",
    "validation.box_f1_50",
]
COUNTS = ["tp", "fn", "fp", "tn"]
KEYS = ["subset", "runs", "localization"]
NOT_DISJOINT = (
    "Validation images of one fold are test images of another, so a threshold or a setting that is chosen by "
    "validation scores is not independent of the test scores."
)


@dataclass(frozen=True)
class Result:
    """One localization of one run: the content of its `metrics.json`, its flat settings, and where it lies."""

    metrics: dict[str, Any]
    settings: Settings
    fingerprint: str
    folder: Path


def summary(results: Sequence[Result], experiments: Mapping[str, Settings]) -> pd.DataFrame:
    """Group results by subset, fit and localization; `experiments` gives the values of each by its name.

    One row per group: `setting` (no two of a subset have the same), `threshold` of the map where it is fixed (else each
    fold has its own), `n_folds`, mean and sd (n - 1) of each score over the `<score>_n` folds in which it could be
    measured, the pooled confusion matrix, and the case study's published balanced accuracy where the subset has one.
    `runs` is the pattern of the folds' folders below `outputs`, which, unlike the fingerprint alone, no reader of CSV
    takes for a number.
    """
    if not results:
        return pd.DataFrame()
    table = pd.json_normalize([result.metrics for result in results])
    table["runs"] = [f"{result.metrics['subset']}/fold*-{result.fingerprint}" for result in results]
    first, rows = [], []
    for (subset, runs, localization), group in table.groupby(KEYS, sort=True):
        settings = results[group.index[0]].settings
        first.append(settings)
        row: dict[str, Any] = {"subset": subset, "setting": "", "n_folds": group["fold"].nunique()}
        row |= {"n_test": int(group["n_test"].sum()), "runs": runs, "localization": localization}
        is_fixed = settings["localization.threshold_from"] == "fixed"
        row["threshold"] = settings["localization.threshold"] if is_fixed else np.nan
        for name in SCORES:
            values = pd.to_numeric(group[name], errors="coerce").dropna() if name in group else pd.Series(dtype=float)
            row[name] = float(values.mean()) if len(values) else np.nan
            row[f"{name}_sd"] = float(values.std()) if len(values) > 1 else np.nan
            row[f"{name}_n"] = len(values)
        for name in COUNTS:
            row[name] = int(group[f"confusion.{name}"].sum())
        is_mvtec = settings.get("data.name") == "mvtec"
        row["published_balanced_accuracy"] = CASE_STUDY.get(str(subset), np.nan) if is_mvtec else np.nan
        rows.append(row)
    grouped = pd.DataFrame(rows)
    grouped["setting"] = labels(first, list(grouped["subset"]), experiments)
    return _told_apart(grouped)


def _told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Add to equal settings what made them different results: other images, weights or masks, another version."""
    for column, name in (("runs", "fit"), ("localization", "localization")):
        same = table.groupby(["subset", "setting"])[column].transform("nunique") > 1
        digests = table[column].str.rpartition("-")[2]
        table["setting"] = table["setting"].where(~same, table["setting"] + f", {name} " + digests)
    return table


def spread(row: pd.Series, name: str) -> str:
    """Write mean ± sd, or the mean alone of one fold, or a dash; and of how many folds, where it is not all."""
    if pd.isna(row[name]):
        return "–"
    sd, n = row[f"{name}_sd"], row[f"{name}_n"]
    text = f"{row[name]:.3f}" if pd.isna(sd) else f"{row[name]:.3f} ± {sd:.3f}"
    return text if n == row["n_folds"] else f"{text} ({n} of {row['n_folds']} folds)"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns that people read, as text; validation scores where there are settings to choose from."""
    columns: dict[str, list[str]] = {"subset": list(table["subset"]), "setting": list(table["setting"])}
    columns["folds"] = [str(n) for n in table["n_folds"]]
    names = {
        "balanced_accuracy": "balanced accuracy",
        "class_network.balanced_accuracy": "of the class network",
        "auroc": "AUROC",
        "pixel_auroc": "pixel AUROC",
        "pixel_ap": "pixel AP",
        "aupro": "AUPRO",
        "max_box_acc_v2": "MaxBoxAccV2",
        "box_f1_30": "box F1 0.3",
        "box_f1_50": "box F1 0.5",
        "shortcut.retained_share": "retained (shortcut check)",
    }
    if table["subset"].duplicated().any():
        names |= {
            "validation.balanced_accuracy": "validation: balanced accuracy",
            "validation.box_f1_30": "validation: box F1 0.3",
        }
    for name, title in names.items():
        if table[name].notna().any():
            columns[title] = [spread(row, name) for _, row in table.iterrows()]
    columns["missed"] = [f"{row.fn} of {row.tp + row.fn}" for row in table.itertuples()]
    columns["false alarms"] = [f"{row.fp} of {row.tn + row.fp}" for row in table.itertuples()]
    if table["published_balanced_accuracy"].notna().any():
        columns["published case study"] = [
            "–" if pd.isna(value) else f"{value:.3f}" for value in table["published_balanced_accuracy"]
        ]
    return pd.DataFrame(columns)


def footnotes(table: pd.DataFrame, results: Sequence[Result]) -> list[str]:
    """Give the sentences that the table must not go without."""
    pooled = any(result.settings.get("data.split", "kfold") == "kfold" for result in results)
    validated = [name for name in SCORES if name.startswith("validation.")]
    return [NOT_DISJOINT] if pooled and table[validated].notna().any(axis=None) else []


def markdown(table: pd.DataFrame) -> str:
    """Write a table of text as Markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.itertuples(index=False)
    ]
    return "\n".join(lines) + "\n"
