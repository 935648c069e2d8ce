"""A sheet of pictures: photograph beside heat map and boxes, with the verdict over it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from defectloc.figures.overlay import BOX, COLORMAP, TRUTH, font, paint_boxes, paint_map, paint_outline, shortened
from defectloc.files import atomic

# Longer side of a picture.
SIDE = 208
GAP, CAPTION, HEADING, HEADER, COLUMNS = 14, 40, 34, 118, 3
CELL = 2 * SIDE + 2
WIDTH = COLUMNS * (CELL + 2 * GAP)
INK, PALE, RIGHT, WRONG = (30, 30, 30), (110, 110, 110), (0, 110, 60), (190, 20, 30)
# A sheet is mostly noise of photographs: the usual level takes four times as long for a seventh of the bytes.
COMPRESSION = 1
# What a run's maps count in.
UNITS = {
    "cam": "log-odds of a defect",
    "memory": "distance to the nearest normal patch",
    "fusion": "log-odds of a defect and standard deviations from normal patches, weighted",
}


@dataclass(frozen=True)
class Panel:
    """One image at the size at which the sheet shows it, longer side `SIDE`, with what was found on it.

    `image` `(h, w, 3)` uint8, `map` `(h, w)`, half-open `boxes` `(N, 4)`, `mask` `(h, w)` or None where it is unknown.
    """

    image: NDArray[np.uint8]
    map: NDArray[np.float32]
    boxes: NDArray[np.int64]
    mask: NDArray[np.bool_] | None
    name: str
    verdict: str
    # None: neither, as of an image for a human to review
    is_right: bool | None


@dataclass(frozen=True)
class Group:
    """Panels under a heading; `empty` is the line that stands there instead of none."""

    heading: str
    panels: Sequence[Panel]
    empty: str = "none"


def draw_sheet(groups: Iterable[Group], scale: tuple[float, float], unit: str, title: str, path: Path) -> None:
    """Draw groups of panels under their headings; `scale` is the range of the map's colours, in `unit`."""
    blocks = [_header(title, scale, unit)]
    for group in groups:
        blocks.append(_heading(group.heading))
        if not group.panels:
            blocks.append(_line(group.empty))
        for start in range(0, len(group.panels), COLUMNS):
            blocks.append(_row(group.panels[start : start + COLUMNS], scale))
    with atomic(path) as temporary:
        Image.fromarray(np.concatenate(blocks)).save(temporary, format="PNG", compress_level=COMPRESSION)


def _row(panels: Sequence[Panel], scale: tuple[float, float]) -> NDArray[np.uint8]:
    # As high as its highest picture needs, so that wide images leave no holes.
    height = CAPTION + max(panel.image.shape[0] for panel in panels) + GAP
    canvas = Image.new("RGB", (WIDTH, height), "white")
    text = ImageDraw.Draw(canvas)
    for number, panel in enumerate(panels):
        x = GAP + number * (CELL + 2 * GAP)
        text.text((x, 0), shortened(panel.name, CELL), INK, font(13))
        color = INK if panel.is_right is None else RIGHT if panel.is_right else WRONG
        text.text((x, 18), panel.verdict, color, font(14, bold=True))
        # Side by side also where they are narrower than a square.
        for left, picture in zip((x, x + panel.image.shape[1] + 2), _pictures(panel, scale), strict=True):
            canvas.paste(Image.fromarray(picture), (left, CAPTION))
    return np.asarray(canvas)


def _pictures(panel: Panel, scale: tuple[float, float]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paint photograph and heat map, both with the outline of the true defect."""
    photograph, painted = panel.image, paint_map(panel.image, panel.map, scale)
    if panel.mask is not None and panel.mask.any():
        photograph, painted = paint_outline(photograph.copy(), panel.mask, 1), paint_outline(painted, panel.mask, 1)
    return photograph, paint_boxes(painted, panel.boxes, 2)


def _heading(heading: str) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", (WIDTH, HEADING), "white")
    ImageDraw.Draw(canvas).text((GAP, 6), heading, INK, font(17, bold=True))
    return np.asarray(canvas)


def _line(sentence: str) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", (WIDTH, HEADING), "white")
    ImageDraw.Draw(canvas).text((GAP, 2), sentence, PALE, font(14))
    return np.asarray(canvas)


def _header(title: str, scale: tuple[float, float], unit: str) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", (WIDTH, HEADER), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, 8), title, INK, font(21, bold=True))
    explained = "Left the photograph, right the heat map on it; all heat maps have the same scale of colours."
    draw.text((GAP, 38), explained, PALE, font(13))
    y = 66
    for inset, color in ((0, (0, 0, 0)), (2, TRUTH), (4, (120, 120, 120))):
        draw.rectangle((GAP + inset, y + inset, GAP + 22 - inset, y + 16 - inset), fill=color)
    draw.text((GAP + 30, y - 1), "true defect, where known", INK, font(14))
    draw.rectangle((GAP + 230, y, GAP + 252, y + 16), fill=(120, 120, 120), outline=BOX, width=2)
    draw.text((GAP + 260, y - 1), "predicted box", INK, font(14))
    left = GAP + 400
    bar = (colormaps[COLORMAP](np.linspace(0, 1, 200))[None, :, :3] * 255).astype(np.uint8).repeat(16, 0)
    canvas.paste(Image.fromarray(bar), (left, y))
    draw.text(
        (left + 210, y - 1), f"{scale[0]:.3g} or less: no colour; {scale[1]:.3g} or more: brightest", INK, font(14)
    )
    draw.text((left, y + 20), f"heat map: {unit}", INK, font(14))
    return np.asarray(canvas)
