"""The synthetic board: a section of a circuit board with a layout of its own in each image.

A cell, the distance from one track to the next, is about 20 pixels in an image of 256, and grows with the square root
of the side: an image of four times the side shows twice the section at twice the resolution, as a better camera does.
Defects are 0.3 to 1.1 cells large: some 6 to 22 pixels of 256, 12 to 44 of 1024, 24 to 88 of 4096.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from defectloc.data.synthetic.board_defects import damage
from defectloc.data.synthetic.layout import TRACK_WIDTH, copper_of, random_layout
from defectloc.data.synthetic.marks import OVERSAMPLING, Canvas, blend, smooth_noise, tint


def render_board(
    rng: np.random.Generator, side: int, defect: str | None, mark: np.random.Generator
) -> tuple[Canvas, Canvas]:
    """Render tracks, pads and holes of bare copper on a green laminate, with 3 to 10 defects of the type."""
    scale = math.sqrt(side / 256)
    layout, cell = random_layout(rng, 20 * scale * float(rng.uniform(0.87, 1.13)), OVERSAMPLING * side)
    copper, holes = copper_of(layout, OVERSAMPLING * side, TRACK_WIDTH * cell)
    if defect is not None:
        copper = damage(copper, holes, layout, cell, defect, mark)
    cell /= OVERSAMPLING
    picture = _photographed(rng, _coverage(rng, copper, cell), _shrunk(holes), cell)
    blurred = cv2.GaussianBlur(picture, (0, 0), scale * float(rng.uniform(0.3, 0.75)))
    return np.asarray(blurred, np.float32), np.ones((side, side), np.float32)


def _shrunk(canvas: NDArray[np.uint8]) -> Canvas:
    side = canvas.shape[0] // OVERSAMPLING
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _coverage(rng: np.random.Generator, copper: NDArray[np.uint8], cell: float) -> Canvas:
    """Return the `(side, side)` coverage, 0 to 1, by copper, whose edges the etching has left a little rough."""
    side = copper.shape[0] // OVERSAMPLING
    soft = np.asarray(cv2.GaussianBlur(_shrunk(copper), (0, 0), max(0.06 * cell, 0.4)), np.float32)
    soft = soft + 0.09 * smooth_noise(rng, side, 0.3 * cell / side)
    return np.asarray(np.clip((soft - 0.5) * 3 + 0.5, 0, 1))


def _photographed(rng: np.random.Generator, copper: Canvas, holes: Canvas, cell: float) -> Canvas:
    """Return the `(side, side, 3)` view under a lamp from the side, with stains and dust that are no defects."""
    side = copper.shape[0]
    y, x = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5) / side
    weave = np.sin(x * side * 2 * np.pi / (0.55 * cell)) * np.sin(y * side * 2 * np.pi / (0.55 * cell))
    laminate = (
        1 + 0.05 * weave + 0.06 * smooth_noise(rng, side, 0.3) + 0.04 * smooth_noise(rng, side, 0.4 * cell / side)
    )
    metal = 1 + 0.05 * smooth_noise(rng, side, 0.2) + 0.05 * smooth_noise(rng, side, 0.25 * cell / side)
    hue = rng.normal(0, 0.012, 3)
    green = np.array([0.13, 0.27, 0.19]) + hue
    orange = np.array([0.80, 0.54, 0.35]) + rng.normal(0, 0.02, 3)
    picture = blend(
        laminate[..., None] * green.astype(np.float32), metal[..., None] * orange.astype(np.float32), copper
    )
    # The copper stands above the laminate: its edges towards the lamp shine, those away from it throw a shadow.
    lamp = rng.uniform(0, 2 * np.pi)
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(copper, (0, 0), max(0.05 * cell, 0.5)))
    picture += (0.05 * cell * 0.25 * (slope_x * np.cos(lamp) + slope_y * np.sin(lamp)))[..., None].astype(np.float32)
    picture = blend(picture, np.array([0.03, 0.03, 0.03]), holes)
    dust = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(0, 6))):
        speck = np.round(rng.uniform(0, side, 2) * 16).astype(int).tolist()
        reach = np.maximum(1, np.round(rng.uniform(0.03, 0.10, 2) * cell * 16)).astype(int).tolist()
        cv2.ellipse(dust, speck, reach, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA, 4)
    picture = blend(picture, np.array([0.62, 0.62, 0.60]), 0.7 * dust.astype(np.float32) / 255)
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    light = 1 + fall * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)) + 0.02 * smooth_noise(rng, side, 0.5)
    return tint(rng, picture * light[..., None].astype(np.float32))
