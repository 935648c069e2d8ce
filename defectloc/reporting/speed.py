"""The benchmark's tables."""

from typing import Any

import pandas as pd

MEASURED = "measured"


def comparison(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Set the arms of each task side by side, with the ratios of their seconds to those with stored features.

    A row has `task`, seconds `case_study`, `streaming` and `stored`, `balanced_accuracy` (None: not measured), `basis`.
    """
    table = pd.DataFrame(rows)
    table["ratio_case_study"] = table["case_study"] / table["stored"]
    table["ratio_streaming"] = table["streaming"] / table["stored"]
    return table


def shown_comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Give the comparison as text; `~` marks what is extrapolated."""
    return pd.DataFrame(
        {
            "task": table["task"],
            "case study's loop": [f"~ {value:.0f} s" for value in table["case_study"]],
            "without stored features": [f"~ {value:.0f} s" for value in table["streaming"]],
            "with stored features": [
                f"{'' if basis == MEASURED else '~ '}{value:.1f} s"
                for value, basis in zip(table["stored"], table["basis"], strict=True)
            ],
            "ratio to the case study's loop": [f"{value:.1f} x" for value in table["ratio_case_study"]],
            "ratio to without": [f"{value:.1f} x" for value in table["ratio_streaming"]],
            "balanced accuracy": [
                value if isinstance(value, str) and value else "–" for value in table["balanced_accuracy"]
            ],
        }
    )


def shown_parts(table: pd.DataFrame) -> pd.DataFrame:
    """Give the single figures (`part, figure, value, unit, basis`) as text."""
    return pd.DataFrame(
        {
            "part": table["part"],
            "figure": table["figure"],
            "value": [
                f"{_number(value)} {unit}".strip() for value, unit in zip(table["value"], table["unit"], strict=True)
            ],
            "basis": table["basis"],
        }
    )


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
