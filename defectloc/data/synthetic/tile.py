"""The synthetic tile: polished granite, a texture that fills the picture."""

import cv2
import numpy as np

from defectloc.data.synthetic.marks import (
    OVERSAMPLING,
    Canvas,
    blend,
    crack,
    disc,
    lamp_direction,
    log_uniform,
    shade,
    shrink,
    smooth_noise,
    tint,
)


def render_tile(
    rng: np.random.Generator, side: int, defect: str | None, mark: np.random.Generator
) -> tuple[Canvas, Canvas]:
    """Render a polished granite tile whose grains fill the picture."""
    s = side * OVERSAMPLING
    n_grains = int(rng.integers(1500, 2100))
    seeds = np.ones((s, s), np.uint8)
    spots = rng.uniform(0, 1, (n_grains, 2))
    seeds[tuple((spots * s).astype(int).T)] = 0
    _, grain = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    y, x = np.mgrid[0:s, 0:s].astype(np.float32)
    # Warped cell borders look like grains, straight ones like a mesh.
    warp_x, warp_y = (0.005 * s * smooth_noise(rng, s, 0.02) for _ in range(2))
    grain = cv2.remap(
        grain.astype(np.float32), x + warp_x, y + warp_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
    )
    cell = grain.astype(int)

    kinds = np.array(
        [[0.60, 0.59, 0.57], [0.72, 0.70, 0.67], [0.49, 0.49, 0.50], [0.36, 0.36, 0.38], [0.66, 0.57, 0.51]]
    )
    chosen = rng.choice(5, int(cell.max()) + 1, p=[0.40, 0.22, 0.18, 0.12, 0.08])
    tones = kinds[chosen] + rng.normal(0, 0.035, (len(chosen), 1)) + rng.normal(0, 0.006, 3)
    albedo = tones.astype(np.float32)[cell] * (1 + 0.05 * smooth_noise(rng, s, 0.008))[..., None]
    albedo = cv2.GaussianBlur(albedo, (0, 0), 0.0012 * s + 0.4)
    height = 0.0004 * smooth_noise(rng, s, 0.03)
    glow = 1 + 0.05 * smooth_noise(rng, s, 0.6)
    lamp = lamp_direction(rng)

    if defect is not None:
        # Large and clear enough for a person to find each without being told where it is.
        place = mark.uniform(0.2, 0.8, 2)
        if defect == "crack":
            width = mark.uniform(0.006, 0.012)
            line = crack(
                mark, s, place, length=log_uniform(mark, 0.25, 1.1), width=width, branches=int(mark.integers(0, 5))
            )
            height -= 0.012 * cv2.GaussianBlur(line, (0, 0), 0.3 * width * s)
            albedo = blend(albedo, np.array([0.10, 0.09, 0.08]), 0.85 * line)
        elif defect == "stain":
            hues = np.array([[0.30, 0.20, 0.08], [0.10, 0.12, 0.18], [0.55, 0.30, 0.10]])
            blob = disc(mark, s, place, log_uniform(mark, 0.05, 0.25)) * mark.uniform(0.55, 0.8)
            albedo = blend(albedo, hues[mark.integers(3)], blob)
        else:
            reach = log_uniform(mark, 0.04, 0.15)
            count = np.maximum(np.bincount(cell.ravel()), 1)
            middles = np.stack([np.bincount(cell.ravel(), (w / s).ravel()) / count for w in (x, y)], 1)
            distance = np.hypot(*(middles - place).T) * mark.uniform(0.7, 1.3, len(middles))
            lost = distance <= max(reach, float(distance.min()))
            pit = cv2.GaussianBlur(lost[cell].astype(np.float32), (0, 0), 0.003 * s)
            height -= pit * (0.016 + 0.0015 * smooth_noise(mark, s, 0.012))
            rubble = np.array([0.27, 0.22, 0.18]) * (1 + 0.22 * smooth_noise(mark, s, 0.01))[..., None]
            albedo = blend(albedo, rubble, pit)

    picture = shade(height, albedo, lamp, gloss=0.12) * glow[..., None]
    return shrink(tint(rng, picture), side), np.ones((side, side), np.float32)
