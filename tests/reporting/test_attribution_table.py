"""The table of compared methods."""

import io

import numpy as np
from rich.console import Console

from defectloc.figures.comparison import draw_comparison
from defectloc.reporting.attribution import COSTS, SCORES, as_text, printed, summary


def row(method, images, pixel_ap):
    return (
        {"method": method, "family": "gradient", "images": images}
        | dict.fromkeys([*SCORES, *COSTS], 0.5)
        | {"pixel_ap": pixel_ap}
    )


def test_rows_are_ordered_by_their_set_of_images_and_by_pixel_ap(tmp_path):
    rows = [row("a", "10 + 10", 0.9), row("b", "2 + 2", None), row("c", "2 + 2", 0.1), row("a", "2 + 2", 0.3)]
    table = summary(rows)
    assert list(zip(table["method"], table["images"], strict=True)) == [
        ("a", "2 + 2"),
        ("c", "2 + 2"),
        ("b", "2 + 2"),
        ("a", "10 + 10"),
    ]
    assert np.isnan(table["pixel_ap"][2])
    text = as_text(table)
    assert text["pixel AP"].tolist() == ["0.300", "0.100", "–", "0.900"]
    assert "change when randomised" in text
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(printed(text))
    assert "10 + 10" in console.export_text()
    draw_comparison(table, "methods", tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 1000
