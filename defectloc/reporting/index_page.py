"""An index over runs as a page: subsets and settings by folds, beside published figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from defectloc import __version__
from defectloc.reporting.labels import parts
from defectloc.reporting.page import render
from defectloc.reporting.summary import shown, spread

# A cell of the table is addressed by subset, folder pattern of the runs, localization and fold.
Cell = tuple[str, str, str, int]
KEY = "index"


def render_index(
    table: pd.DataFrame, notes: Sequence[str], values: Mapping[Cell, float | None], links: Mapping[Cell, str]
) -> str:
    """Write the index from the table of `summary.summary`.

    `values` are the balanced accuracies of single folds, None where not measured, and `links` the addresses of their
    reports relative to the page.
    """
    folds = sorted({fold for *_, fold in values})
    readable = shown(table)
    has_published = bool(table["published_balanced_accuracy"].notna().any())
    usual = {subset: _usual(list(rows["setting"])) for subset, rows in table.groupby("subset")}
    rows = [_row(row, folds, values, links, usual[row["subset"]]) for _, row in table.iterrows()]
    n_runs = len({(subset, runs, fold) for subset, runs, _, fold in values})
    subsets = table["subset"].nunique()
    return render(
        "index.html",
        KEY,
        title="defectloc: all runs",
        introduction=(
            f"{n_runs} run{'s' if n_runs != 1 else ''} of {subsets} subset{'s' if subsets != 1 else ''}, a row for "
            "each setting. Balanced accuracy is the mean of the shares of defects caught and of good parts passed; "
            "0.5 is guessing, 1 is perfect. What most settings of a subset share is grey."
        ),
        notes=list(notes),
        folds=folds,
        has_published=has_published,
        rows=rows,
        columns=list(readable.columns),
        table=readable.to_numpy().tolist(),
        footer=f"Written by defectloc {__version__}.",
    )


def _usual(settings: Sequence[str]) -> frozenset[str]:
    """Give the parts of labels that more than half of several settings have."""
    counts = Counter(part for setting in settings for part in set(parts(setting)))
    return frozenset(part for part, n in counts.items() if len(settings) > 1 and 2 * n > len(settings))


def _row(
    row: pd.Series,
    folds: Sequence[int],
    values: Mapping[Cell, float | None],
    links: Mapping[Cell, str],
    usual: frozenset[str],
) -> dict[str, Any]:
    cells = []
    for fold in folds:
        place = (str(row["subset"]), str(row["runs"]), str(row["localization"]), fold)
        value = values.get(place)
        text = "" if place not in values else "–" if value is None else f"{value:.3f}"
        cells.append({"value": text, "link": links.get(place)})
    published = row["published_balanced_accuracy"]
    return {
        "subset": row["subset"],
        "setting": [(part, part in usual) for part in parts(row["setting"])],
        "folds": cells,
        "mean": spread(row, "balanced_accuracy"),
        "published": "–" if pd.isna(published) else f"{published:.3f}",
        "missed": f"{row['fn']} of {row['tp'] + row['fn']}",
        "rejected": f"{row['fp']} of {row['tn'] + row['fp']}",
    }
