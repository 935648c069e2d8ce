"""What the class decision rests on, beside what is unusual."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from defectloc.figures.overlay import paint_heat, paint_outline
from defectloc.files import atomic


@dataclass(frozen=True)
class Evidence:
    """One image with two maps in its own pixels, and the class log-odds before and after the rest is replaced."""

    image: np.ndarray
    mask: np.ndarray | None
    class_map: np.ndarray
    unusual: np.ndarray
    log_odds: float
    kept_log_odds: float


def draw_evidence(
    rows: list[Evidence], scales: tuple[tuple[float, float], tuple[float, float]], title: str, path: Path
) -> None:
    """Draw a row of three pictures for each image; `scales` are the colours' ranges of class map and unusual."""
    figure = Figure(figsize=(9.6, 3.1 * len(rows) + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = np.atleast_2d(figure.subplots(len(rows), 3))
    for axes, row in zip(grid, rows, strict=True):
        photo = row.image if row.mask is None or not row.mask.any() else paint_outline(row.image, row.mask, 2)
        pictures = (photo, paint_heat(photo, row.class_map, scales[0]), paint_heat(photo, row.unusual, scales[1]))
        for one, picture in zip(axes, pictures, strict=True):
            one.imshow(picture)
            one.set_axis_off()
        verdict = "still defective" if row.kept_log_odds > 0 else "then good"
        names = [
            "photograph, true defect outlined" if row.mask is not None else "photograph",
            f"class map: {row.log_odds:.1f}, by the unusual alone {row.kept_log_odds:.1f} ({verdict})",
            "memory: what is unusual",
        ]
        for one, name in zip(axes, names, strict=True):
            one.set_title(name, fontsize=9)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
