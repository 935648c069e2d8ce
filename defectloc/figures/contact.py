"""A contact sheet of explained images, each image on its own, and the channels of a layer."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from defectloc.figures.overlay import paint_boxes, paint_outline, shortened
from defectloc.figures.signed_maps import red_and_blue
from defectloc.files import atomic

RIGHT, WRONG, UNKNOWN = "#00703c", "#b5121b", "#222222"
# Longest side of a picture, in pixels.
SIDE = 640
# Of a panel of the sheet, in inches; and the font of its caption, in points.
PANEL, DPI, CAPTION = 3.3, 110, 9
# Of the picture of a single image, in inches: so wide is its title.
LEAST_WIDTH = 9
# As many letters of a verdict as a panel is wide.
LETTERS = 48


@dataclass(frozen=True)
class ExplainedPanel:
    """One image `(H, W, 3)`, `painted` with its map, with boxes `(N, 4)` and, where it is known, the mask `(H, W)`."""

    image: np.ndarray
    painted: np.ndarray
    boxes: np.ndarray
    mask: np.ndarray | None
    name: str
    # of the network, and the true one
    verdict: str
    truth: str
    is_right: bool | None


@dataclass(frozen=True)
class Legend:
    """The meaning of a sheet's colours; `scale` is the range of the values."""

    label: str
    colormap: str | Colormap
    scale: tuple[float, float]


def draw_contact_sheet(panels: Sequence[ExplainedPanel], columns: int, legend: Legend, title: str, path: Path) -> None:
    """Draw the panels in rows of `columns`, with prediction and truth over each, and one legend."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(PANEL * columns, 3.75 * rows + 1.1), layout="constrained")
    figure.suptitle(title, fontsize=13)
    grid = figure.subplots(rows, columns, squeeze=False)
    # Of a name, in pixels at the size of the caption's font.
    width, size = 0.95 * PANEL * DPI, round(CAPTION * DPI / 72)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.imshow(_outlined(panel, panel.painted))
        color = UNKNOWN if panel.is_right is None else RIGHT if panel.is_right else WRONG
        lines = [shortened(panel.name, width, size), textwrap.fill(panel.verdict, LETTERS), panel.truth]
        axes.set_title("\n".join(line for line in lines if line), fontsize=CAPTION, color=color)
    _bar(figure, list(grid.flat), legend)
    _save(figure, path, DPI)


def draw_single(panel: ExplainedPanel, colored: np.ndarray, path: Path) -> None:
    """Draw one image as photograph | heat map | overlay | boxes; `colored` is the map in colours `(H, W, 3)`."""
    boxed = paint_boxes(panel.image.copy(), panel.boxes, max(2, max(panel.image.shape) // 250))
    height, width = (3.4 * side / max(panel.image.shape[:2]) for side in panel.image.shape[:2])
    figure = Figure(figsize=(max(4 * width + 0.4, LEAST_WIDTH), max(height, 0.5) + 0.7), layout="constrained")
    figure.suptitle(f"{panel.name}: {panel.verdict}{', ' + panel.truth if panel.truth else ''}", fontsize=11)
    pictures = (
        ("photograph", _outlined(panel, panel.image)),
        ("heat map", colored),
        ("overlay", _outlined(panel, panel.painted)),
        (f"boxes: {len(panel.boxes)}", _outlined(panel, boxed)),
    )
    for axes, (name, picture) in zip(figure.subplots(1, 4), pictures, strict=True):
        axes.imshow(picture)
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    _save(figure, path, 100)


def draw_channels(image: np.ndarray, total: np.ndarray, parts: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw the channels that add most to the score and those that take most, and the sum of all, `total` `(h, w)`.

    `parts` are those of `attribution.channels`; a channel's picture is weight times activation, all on one scale,
    and the sum has its own.
    """
    n = len(parts["index"]) // 2
    weighted = parts["weight"][:, None, None] * parts["map"]
    top = float(max(np.abs(weighted).max(), 1e-12))
    figure = Figure(figsize=(2.3 * (n + 1), 5.6), layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(2, n + 1, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for k, axes in enumerate([*grid[0, :n], *grid[1, :n]]):
        axes.imshow(weighted[k], cmap=red_and_blue(), vmin=-top, vmax=top)
        text = f"channel {parts['index'][k]}\nweight {parts['weight'][k]:+.3g}, adds {parts['contribution'][k]:+.3g}"
        axes.set_title(text, fontsize=8)
    grid[0, n].imshow(image)
    grid[0, n].set_title("photograph", fontsize=9)
    limit = float(max(np.abs(total).max(), 1e-12))
    grid[1, n].imshow(total, cmap=red_and_blue(), vmin=-limit, vmax=limit)
    grid[1, n].set_title(f"sum of all channels, bias {float(parts['bias']):+.3g}\nmean {total.mean():+.3g}", fontsize=8)
    _bar(figure, list(grid.flat), Legend("weight x activation of a channel", red_and_blue(), (-top, top)))
    _save(figure, path, DPI)


def _outlined(panel: ExplainedPanel, picture: np.ndarray) -> np.ndarray:
    factor = min(1.0, SIDE / max(picture.shape[:2]))
    if panel.mask is not None and panel.mask.any():
        picture = paint_outline(picture.copy(), panel.mask, max(1, max(picture.shape) // 350))
    if factor == 1:
        return picture
    # Of a long strip at least one pixel is left.
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _bar(figure: Figure, axes: list, legend: Legend) -> None:
    cmap = colormaps[legend.colormap] if isinstance(legend.colormap, str) else legend.colormap
    mappable = ScalarMappable(Normalize(*legend.scale), cmap)
    # Pictures hang from their captions, so that those of photographs of several sizes stand on one line.
    hanging = (0.5, 1.0)
    place: dict[str, Any] = {"ax": axes, "location": "bottom", "panchor": hanging, "pad": 0.02}
    figure.colorbar(mappable, label=legend.label, shrink=0.6, aspect=40, **place)


def _save(figure: Figure, path: Path, dpi: int) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
