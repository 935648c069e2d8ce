"""A sheet of pictures: photograph beside heat map and boxes, with the verdict over it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from defectloc.figures.overlay import BOX, HEAT, TRUTH, font, paint_boxes, paint_heat, paint_outline
from defectloc.files import atomic

SIDE, GAP, CAPTION, HEADER, COLUMNS = 208, 14, 40, 96, 3
INK, RIGHT, WRONG = (30, 30, 30), (0, 110, 60), (190, 20, 30)


@dataclass(frozen=True)
class Panel:
    """One image with what was found on it; `heat` `(H, W)`, `boxes` `(N, 4)` and `mask` `(H, W)` in its own pixels."""

    image: np.ndarray
    heat: np.ndarray
    boxes: np.ndarray
    mask: np.ndarray | None
    name: str
    verdict: str
    is_right: bool


def draw_sheet(
    groups: Iterable[tuple[str, list[Panel]]], scale: tuple[float, float], unit: str, title: str, path: Path
) -> None:
    """Draw groups of panels under their headings; `scale` is the range of the heat's colours, in `unit`."""
    blocks = [_header(title, scale, unit)]
    for heading, panels in groups:
        blocks.append(_heading(heading))
        for start in range(0, len(panels), COLUMNS):
            cells = [_cell(panel, scale) for panel in panels[start : start + COLUMNS]]
            row = np.full((SIDE + CAPTION + GAP, _width(), 3), 255, np.uint8)
            for number, cell in enumerate(cells):
                x = GAP + number * (2 * SIDE + 2 + 2 * GAP)
                row[: cell.shape[0], x : x + cell.shape[1]] = cell
            blocks.append(row)
    with atomic(path) as temporary:
        Image.fromarray(np.concatenate(blocks)).save(temporary)


def _width() -> int:
    return COLUMNS * (2 * SIDE + 2 + 2 * GAP)


def _cell(panel: Panel, scale: tuple[float, float]) -> np.ndarray:
    height, width = panel.image.shape[:2]
    factor = SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    photo = cv2.resize(panel.image, size, interpolation=interpolation)
    heat = cv2.resize(panel.heat, size, interpolation=cv2.INTER_LINEAR)
    hot = paint_heat(photo, heat, scale)
    if panel.mask is not None and panel.mask.any():
        small = cv2.resize(panel.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        photo, hot = paint_outline(photo, small, 1), paint_outline(hot, small, 1)
    boxes = np.asarray(panel.boxes, dtype=float).reshape(-1, 4) * factor
    hot = paint_boxes(hot, np.rint(boxes), 2)
    cell = np.full((CAPTION + SIDE, 2 * SIDE + 2, 3), 255, np.uint8)
    for x, picture in ((0, photo), (SIDE + 2, hot)):
        cell[CAPTION : CAPTION + size[1], x : x + size[0]] = picture
    canvas = Image.fromarray(cell)
    text = ImageDraw.Draw(canvas)
    text.text((0, 0), _shortened(panel.name, 2 * SIDE), INK, font(13))
    text.text((0, 18), panel.verdict, RIGHT if panel.is_right else WRONG, font(14, bold=True))
    return np.array(canvas)


def _shortened(name: str, width: int) -> str:
    """Cut the beginning of a path that is too long for its picture; its end tells images apart."""
    if font(13).getlength(name) <= width:
        return name
    while font(13).getlength(f"…{name}") > width:
        name = name[1:]
    return f"…{name}"


def _heading(heading: str) -> np.ndarray:
    canvas = Image.new("RGB", (_width(), 34), "white")
    ImageDraw.Draw(canvas).text((GAP, 6), heading, INK, font(17, bold=True))
    return np.array(canvas)


def _header(title: str, scale: tuple[float, float], unit: str) -> np.ndarray:
    canvas = Image.new("RGB", (_width(), HEADER), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, 8), title, INK, font(21, bold=True))
    y = 50
    for inset, color in ((0, (0, 0, 0)), (2, TRUTH), (4, (120, 120, 120))):
        draw.rectangle((GAP + inset, y + inset, GAP + 22 - inset, y + 16 - inset), fill=color)
    draw.text((GAP + 30, y - 1), "true defect, where known", INK, font(14))
    draw.rectangle((GAP + 230, y, GAP + 252, y + 16), fill=(120, 120, 120), outline=BOX, width=2)
    draw.text((GAP + 260, y - 1), "box found", INK, font(14))
    bar = (colormaps[HEAT](np.linspace(0, 1, 200))[None, :, :3] * 255).astype(np.uint8).repeat(16, 0)
    canvas.paste(Image.fromarray(bar), (GAP + 380, y))
    draw.text((GAP + 588, y - 1), f"{unit}: {scale[0]:.3g} (no colour) to {scale[1]:.3g}", INK, font(14))
    draw.text(
        (GAP, y + 24),
        "Left the photograph, right the heat map on it; the colours mean the same everywhere.",
        (110, 110, 110),
        font(13),
    )
    return np.array(canvas)
