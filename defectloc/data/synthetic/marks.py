"""What synthetic parts are made of: smooth noise, blotches, cracks, scratches, and the shading of a relief.

A canvas is square. Positions are fractions of its side, x to the right and y down, from 0 to 1.
"""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.floating]

# Parts are rendered at twice the size and averaged down, which antialiases what the strokes do not.
OVERSAMPLING = 2


def log_uniform(mark: np.random.Generator, low: float, high: float) -> float:
    """Return a size between two bounds, evenly spread on a logarithmic scale: small defects are not rare."""
    return float(np.exp(mark.uniform(np.log(low), np.log(high))))


def lamp_direction(rng: np.random.Generator) -> NDArray[np.floating]:
    """Return the direction `(3,)` of a lamp above and to the upper left."""
    angle = np.deg2rad(225 + rng.normal(0, 14))
    return np.array([np.cos(angle), np.sin(angle), rng.uniform(1.2, 1.7)])


def tint(rng: np.random.Generator, image: Canvas) -> Canvas:
    """Return the image `(side, side, 3)` in slightly other brightness and colour."""
    gains = rng.uniform(0.92, 1.06) * (1 + rng.normal(0, 0.005, 3))
    return np.asarray(image * gains.astype(np.float32))


def shrink(image: Canvas, side: int) -> Canvas:
    """Return the oversampled canvas averaged down to `side` pixels."""
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


def smooth_noise(rng: np.random.Generator, side: int, scale: float) -> Canvas:
    """Return `(side, side)` noise of mean about 0 and deviation about 1 whose bumps are `scale` of the side wide."""
    cells = max(4, round(1 / scale) + 3)
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine / max(float(fine.std()), 1e-6))


def disc(rng: np.random.Generator, side: int, centre: NDArray[np.floating], radius: float) -> Canvas:
    """Return the `(side, side)` coverage, 0 to 1, of an irregular blob with a soft rim."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = np.arctan2(y - centre[1], x - centre[0])
    rim = np.ones_like(angle)
    for wave in range(2, 7):
        rim += rng.normal(0, 0.28 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(x - centre[0], y - centre[1])
    softness = max(0.25 * radius, 1.5 / side)
    return np.asarray(np.clip((radius * rim - distance) / softness + 0.5, 0, 1))


def stroke(side: int, points: NDArray[np.floating], width: float) -> Canvas:
    """Return the `(side, side)` coverage, 0 to 1, of a polyline `(N, 2)` that tapers towards both ends."""
    canvas = np.zeros((side, side), np.uint8)
    # Four fractional bits: cv2 then antialiases between pixel positions.
    fixed = np.round(points * side * 16).astype(int)
    for i, (start, end) in enumerate(pairwise(fixed)):
        taper = np.sin(np.pi * (i + 0.7) / (len(points) - 0.6)) ** 0.5
        thickness = max(1, round(width * side * taper))
        cv2.line(canvas, start.tolist(), end.tolist(), 255, thickness, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def crack(
    rng: np.random.Generator, side: int, centre: NDArray[np.floating], *, length: float, width: float, branches: int
) -> Canvas:
    """Return the `(side, side)` coverage of a jagged line around `centre` with side branches."""
    steps = max(4, round(length / 0.016))
    # Jagged from step to step, and drifting slowly: a drift alone looks like a worm.
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, steps)) + rng.normal(0, 0.5, steps)
    walk = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * length / steps, axis=0)
    points = centre + walk - walk[steps // 2]
    canvas = stroke(side, points, width)
    for _ in range(branches):
        root = int(rng.integers(1, steps - 1))
        count = max(3, round(steps * rng.uniform(0.2, 0.45)))
        turn = heading[root] + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1) + rng.normal(0, 0.45, count)
        twig = points[root] + np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1) * length / steps, axis=0)
        canvas = np.maximum(canvas, stroke(side, np.vstack([points[root], twig]), 0.6 * width))
    return canvas


def scratches(
    rng: np.random.Generator, side: int, centre: NDArray[np.floating], *, length: float, width: float, count: int
) -> Canvas:
    """Return the `(side, side)` coverage of `count` nearly parallel, slightly bent strokes around `centre`."""
    canvas = np.zeros((side, side), np.float32)
    heading = rng.uniform(0, np.pi)
    t = np.linspace(-0.5, 0.5, 9)
    for _ in range(count):
        angle = heading + rng.normal(0, 0.12)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        reach = length * rng.uniform(0.6, 1.0)
        offset = centre + across * rng.normal(0, 0.07 * length) + along * rng.normal(0, 0.08 * length)
        bend = rng.normal(0, 0.15) * reach
        points = offset + np.outer(t, along) * reach + np.outer(t**2, across) * bend
        canvas = np.maximum(canvas, stroke(side, points, width * rng.uniform(0.7, 1.1)) * rng.uniform(0.75, 1.0))
    return canvas


def shade(height: Canvas, albedo: Canvas, light: NDArray[np.floating], gloss: float = 0.15) -> Canvas:
    """Return the `(side, side, 3)` view from above of a relief under one distant lamp and ambient light.

    `height` `(side, side)` is in fractions of the side, `albedo` `(side, side, 3)` in 0..1, `light` points to the lamp.
    """
    side = height.shape[0]
    slope_y, slope_x = np.gradient(height * side)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    to_lamp = (light / np.linalg.norm(light)).astype(np.float32)
    diffuse = np.clip((-slope_x * to_lamp[0] - slope_y * to_lamp[1] + to_lamp[2]) / length, 0, 1)
    # Blinn's half vector with the eye straight above.
    half = to_lamp + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    shine = np.clip((-slope_x * half[0] - slope_y * half[1] + half[2]) / length, 0, 1) ** 40
    lit = albedo * (0.38 + 0.68 * diffuse)[..., None] + gloss * shine[..., None]
    return np.asarray(lit)


def blend(below: Canvas, colour: Canvas, coverage: Canvas) -> Canvas:
    """Return `below` `(side, side, 3)` covered by `colour` (`(3,)` or like `below`) where `coverage` is 1."""
    return np.asarray(below + coverage[..., None] * (colour.astype(np.float32) - below))
