"""The table of compared methods of attribution."""

from typing import Any

import pandas as pd
from rich.table import Table

SCORES = {
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
    "pointing_game": "pointing game",
    "box_f1_30": "box F1, IoU 0.3",
    "insertion": "insertion",
    "deletion": "deletion",
    "sanity": "change when randomised",
}
COSTS = {"seconds": "s per image", "evaluations": "passes per image"}


def summary(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Order the rows by set of images, then by pixel AP, best first; what could not be measured comes last.

    The columns: `method`, `family`, `images` (defective + good), `SCORES` and `COSTS`, NaN for what is unknown.
    """
    table = pd.DataFrame(rows).astype(dict.fromkeys([*SCORES, *COSTS], float))
    table["n"] = table["images"].map(lambda text: sum(int(number) for number in text.split(" + ")))
    table = table.sort_values(["n", "pixel_ap"], ascending=[True, False], kind="stable")
    return table.drop(columns="n").reset_index(drop=True)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Give the table as text; a dash where nothing could be measured."""
    columns = {"images": table["images"], "method": table["method"]}
    for name, title in SCORES.items():
        columns[title] = ["–" if pd.isna(value) else f"{value:.3f}" for value in table[name]]
    columns[COSTS["seconds"]] = [f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in table["seconds"]]
    columns[COSTS["evaluations"]] = [f"{value:.0f}" for value in table["evaluations"]]
    return pd.DataFrame(columns)


def printed(text: pd.DataFrame) -> Table:
    """Give the table of `as_text` for the terminal."""
    table = Table(title="methods compared; images: defective + good", title_justify="left")
    for name in text.columns:
        table.add_column(name, justify="left" if name in ("method", "images") else "right")
    for row in text.itertuples(index=False):
        table.add_row(*row)
    return table
