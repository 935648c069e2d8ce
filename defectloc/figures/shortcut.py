"""The shortcut check: what is left of the class decision once normal features replace all but the anomaly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from defectloc.figures.overlay import COLORMAP, paint_map, paint_outline
from defectloc.files import atomic

# Longer side of a picture in pixels.
SIDE = 400


@dataclass(frozen=True)
class Counterfactual:
    """One image `(h, w, 3)` with its class activation map and anomaly map `(h, w)`, and the mask or None.

    `log_odds` is the class network's, `retained_log_odds` what is left of it once the features outside the anomaly are
    replaced by those of the nearest normal images.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    class_map: NDArray[np.float32]
    anomaly_map: NDArray[np.float32]
    name: str
    log_odds: float
    retained_log_odds: float


def draw_shortcut(
    rows: Sequence[Counterfactual],
    class_scale: tuple[float, float],
    anomaly_scale: tuple[float, float],
    title: str,
    path: Path,
) -> None:
    """Draw a row of three pictures for each image; the scales are the ranges of the two maps' colours."""
    figure = Figure(figsize=(10.5, 3.3 * len(rows) + 1.6), layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        photograph, truth = row.image, "true defect not known"
        if row.mask is not None and row.mask.any():
            photograph, truth = paint_outline(row.image.copy(), row.mask, 2), "true defect outlined"
        maps = ((row.class_map, class_scale), (row.anomaly_map, anomaly_scale))
        pictures = [photograph, *(paint_map(photograph, values, scale) for values, scale in maps)]
        verdict = "still defective" if row.retained_log_odds > 0 else "good"
        headings = [
            f"{_end_of(row.name)}\n{truth}",
            f"class activation map\nlog-odds {row.log_odds:.1f}; retained {row.retained_log_odds:.1f}: {verdict}",
            "anomaly map\nonly the features here are retained",
        ]
        for one, picture, heading in zip(axes, pictures, headings, strict=True):
            one.imshow(picture)
            one.set_axis_off()
            one.set_title(heading, fontsize=9)
    labels = (
        (class_scale, "class activation map: log-odds of a defect"),
        (anomaly_scale, "anomaly map: standard deviations from normal patches"),
    )
    for column, (scale, label) in enumerate(labels, start=1):
        bar = ScalarMappable(Normalize(*scale), colormaps[COLORMAP])
        # Under the lowest picture alone, so that all three columns keep one size.
        figure.colorbar(bar, ax=list(grid[:, column]), location="bottom", shrink=0.9, pad=0.01).set_label(
            label, fontsize=8
        )
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _end_of(name: str) -> str:
    return name if len(name) <= 44 else f"…{name[-43:]}"
