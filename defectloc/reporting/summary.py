"""Runs grouped by setting: mean and sd over folds, pooled counts, beside the case study's published row."""

from typing import Any

import numpy as np
import pandas as pd

# Reported by the case study, one 80/20 split per subset: n test images, accuracy, balanced accuracy, defects found.
CASE_STUDY = {
    "hazelnut": (101, 0.970, 0.953, "13/14", "85/87"),
    "leather": (74, 0.960, 0.921, "16/19", "55/55"),
    "cable": (75, 0.947, 0.889, "14/18", "57/57"),
    "toothbrush": (21, 0.905, 0.833, "4/6", "15/15"),
    "pill": (87, 0.828, 0.817, "22/28", "50/59"),
}
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
    "evidence.still_found",
    "evidence.on_defect",
    "validation.balanced_accuracy",
    "validation.box_f1_30",
    "validation.box_f1_50",
]
COUNTS = ["tp", "fn", "fp", "tn"]


def summary(metrics: list[dict[str, Any]]) -> pd.DataFrame:
    """Group the metrics of runs, each with `fingerprint` and `setting` added, by subset, fit and localization.

    One row per group: `n_folds`, mean and sd (n - 1) of each score over the folds in which it could be measured, the
    pooled confusion matrix, and the case study's published balanced accuracy where the subset has one.
    """
    if not metrics:
        return pd.DataFrame()
    table = pd.json_normalize(metrics)
    rows = []
    keys = ["subset", "fingerprint", "localization"]
    for (subset, fingerprint, localization), group in table.groupby(keys, sort=True):
        row: dict[str, Any] = {
            "subset": subset,
            "fingerprint": fingerprint,
            "localization": localization,
            "setting": group["setting"].iloc[0],
            "threshold": group["threshold"].iloc[0],
            "n_folds": group["fold"].nunique(),
            "n_test": int(group["n_test"].sum()),
        }
        for name in SCORES:
            values = pd.to_numeric(group[name], errors="coerce").dropna() if name in group else pd.Series(dtype=float)
            row[name] = float(values.mean()) if len(values) else np.nan
            row[f"{name}_sd"] = float(values.std()) if len(values) > 1 else np.nan
        for name in COUNTS:
            row[name] = int(group[f"confusion.{name}"].sum())
        row["published_balanced_accuracy"] = CASE_STUDY[str(subset)][2] if subset in CASE_STUDY else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def spread(row: pd.Series, name: str) -> str:
    """Write mean ± sd, or the mean alone of one fold, or a dash."""
    if pd.isna(row[name]):
        return "–"
    sd = row[f"{name}_sd"]
    return f"{row[name]:.3f}" if pd.isna(sd) else f"{row[name]:.3f} ± {sd:.3f}"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns that people read, as text."""
    columns: dict[str, list[str]] = {"subset": list(table["subset"]), "setting": list(table["setting"])}
    columns["folds"] = [str(n) for n in table["n_folds"]]
    names = {
        "balanced_accuracy": "balanced accuracy",
        "auroc": "AUROC",
        "pixel_auroc": "pixel AUROC",
        "pixel_ap": "pixel AP",
        "aupro": "AUPRO",
        "max_box_acc_v2": "MaxBoxAccV2",
        "box_f1_30": "box F1 0.3",
        "box_f1_50": "box F1 0.5",
        "evidence.still_found": "found by what is unusual",
    }
    for name, title in names.items():
        if table[name].notna().any():
            columns[title] = [spread(row, name) for _, row in table.iterrows()]
    columns["found"] = [f"{row.tp}/{row.tp + row.fn}" for row in table.itertuples()]
    columns["passed"] = [f"{row.tn}/{row.tn + row.fp}" for row in table.itertuples()]
    if table["published_balanced_accuracy"].notna().any():
        columns["case study"] = [
            "–" if pd.isna(value) else f"{value:.3f}" for value in table["published_balanced_accuracy"]
        ]
    return pd.DataFrame(columns)


def markdown(table: pd.DataFrame) -> str:
    """Write a table of text as Markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"
