"""Heat, boxes and outlines on a photograph."""

from functools import lru_cache

import cv2
import matplotlib
import numpy as np
from matplotlib import colormaps
from PIL import ImageFont

HEAT = "inferno"
BOX, TRUTH = (0, 229, 255), (255, 255, 255)


def paint_heat(image: np.ndarray, heat: np.ndarray, scale: tuple[float, float], opacity: float = 0.65) -> np.ndarray:
    """Lay a map `(H, W)` on an image `(H, W, 3)` uint8; `scale` = values of no and of full colour.

    The scale is given, not taken from the map, so that the same colour means the same evidence on every image.
    Cold places stay as they are.
    """
    low, high = scale
    share = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
    color = colormaps[HEAT](share)[..., :3] * 255
    weight = (opacity * share)[..., None]
    return (image * (1 - weight) + color * weight).astype(np.uint8)


def paint_outline(image: np.ndarray, mask: np.ndarray, width: int) -> np.ndarray:
    """Draw the outline of a mask `(H, W)` in white on black, so that it shows on any ground."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(image)
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), width + 2)
    cv2.drawContours(drawn, contours, -1, TRUTH, width)
    return drawn


def paint_boxes(image: np.ndarray, boxes: np.ndarray, width: int) -> np.ndarray:
    """Draw half-open boxes `(N, 4)` x0, y0, x1, y1 inside their own edge."""
    drawn = np.ascontiguousarray(image)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=int):
        cv2.rectangle(drawn, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), (0, 0, 0), width + 2)
        cv2.rectangle(drawn, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), BOX, width)
    return drawn


@lru_cache(maxsize=8)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that comes with Matplotlib, which also knows non-Latin file names."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)
