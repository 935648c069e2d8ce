"""Maps, boxes and outlines painted on a photograph."""

from functools import lru_cache

import cv2
import matplotlib
import numpy as np
from matplotlib import colormaps
from PIL import ImageFont

COLORMAP = "inferno"
BOX, TRUTH = (0, 229, 255), (255, 255, 255)


def paint_map(
    image: np.ndarray,
    values: np.ndarray,
    scale: tuple[float, float],
    opacity: float = 0.65,
    colormap: str = COLORMAP,
    photo_opacity: float | None = None,
) -> np.ndarray:
    """Lay a map `(H, W)` on an image `(H, W, 3)` uint8; `scale` = values of no and of full colour.

    The scale is given, not taken from the map, so that the same colour means the same value on every image. Low values
    leave the photograph as it is, unless `photo_opacity` is given: then both are added, with these two weights
    everywhere.
    """
    low, high = scale
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    colors = _colors(colormap)
    color = colors.take((share * len(colors)).astype(np.intp), axis=0, mode="clip")
    if photo_opacity is not None:
        return np.clip(color * opacity + image * photo_opacity, 0, 255).astype(np.uint8)
    weight = (opacity * share)[..., None]
    return (image * (1 - weight) + color * weight).astype(np.uint8)


@lru_cache(maxsize=8)
def _colors(colormap: str) -> np.ndarray:
    """List the colours `(N, 3)` of a colour map, 0 to 255, from none to full."""
    table = colormaps[colormap]
    return table(np.arange(table.N))[:, :3] * 255


def png(image: np.ndarray) -> bytes:
    """Encode an `(H, W, 3)` uint8 image; OpenCV takes a tenth of the time that Pillow does, for as small a file."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def paint_outline(image: np.ndarray, mask: np.ndarray, width: int) -> np.ndarray:
    """Draw the outline of a mask `(H, W)` in white on black, so that it shows on any ground."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    painted = np.ascontiguousarray(image)
    cv2.drawContours(painted, contours, -1, (0, 0, 0), width + 2)
    cv2.drawContours(painted, contours, -1, TRUTH, width)
    return painted


def paint_boxes(image: np.ndarray, boxes: np.ndarray, width: int) -> np.ndarray:
    """Draw half-open boxes `(N, 4)` x0, y0, x1, y1 inside their own edge."""
    painted = np.ascontiguousarray(image)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=int):
        cv2.rectangle(painted, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), (0, 0, 0), width + 2)
        cv2.rectangle(painted, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), BOX, width)
    return painted


@lru_cache(maxsize=8)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that comes with Matplotlib, which also knows non-Latin file names."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)


def shortened(name: str, width: float, size: int = 13) -> str:
    """Cut the beginning of a path that is wider than `width` pixels at a font size; its end tells images apart."""
    if font(size).getlength(name) <= width:
        return name
    # Characters differ in width, so the cut that fits is found by halving.
    low, high = 0, len(name)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if font(size).getlength(f"…{name[middle:]}") <= width else (middle + 1, high)
    return f"…{name[low:]}"
