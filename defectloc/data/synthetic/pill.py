"""The synthetic pill: off-white, speckled, debossed, always in about the same pose."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from defectloc.data.synthetic.marks import (
    OVERSAMPLING,
    Canvas,
    blend,
    crack,
    disc,
    lamp_direction,
    log_uniform,
    scratches,
    shade,
    shrink,
    smooth_noise,
    tint,
)


def render_pill(
    rng: np.random.Generator, side: int, defect: str | None, mark: np.random.Generator
) -> tuple[Canvas, Canvas]:
    """Render an off-white, red-speckled, debossed oblong pill on a dark ground, in about the same pose each time."""
    s = side * OVERSAMPLING
    centre = 0.5 + rng.uniform(-0.02, 0.02, 2)
    angle = math.radians(rng.normal(0, 2.0))
    a, b = (np.array([0.41, 0.205]) * rng.uniform(0.98, 1.02)).tolist()
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = (np.mgrid[0:s, 0:s].astype(np.float32) + 0.5) / s
    right, down = x - float(centre[0]), y - float(centre[1])
    u = cos * right + sin * down
    v = -sin * right + cos * down
    rim = (np.abs(u / a) ** 2.5 + np.abs(v / b) ** 2.5) ** (1 / 2.5)
    inside = np.clip((1 - rim) * b * s + 0.5, 0, 1)
    height = 0.05 * (1 - np.clip(rim, 0, 1) ** 5)

    imprint = np.zeros((s, s), np.uint8)
    thick = max(1, round(0.016 * s))
    font, scale, base_line = cv2.FONT_HERSHEY_SIMPLEX, s / 165, round(0.565 * s)
    cv2.putText(imprint, "DL", (round(0.23 * s), base_line), font, scale, 255, thick, cv2.LINE_AA)
    cv2.putText(imprint, "20", (round(0.565 * s), base_line), font, scale, 255, thick, cv2.LINE_AA)
    cv2.line(imprint, (s // 2, round(0.33 * s)), (s // 2, round(0.67 * s)), 255, thick, cv2.LINE_AA)
    pose = cv2.getRotationMatrix2D((s / 2, s / 2), -math.degrees(angle), 1.0)
    pose = np.hstack([pose[:, :2], pose[:, 2:] + (centre[:, None] - 0.5) * s])
    debossed = cv2.warpAffine(imprint, pose, (s, s)).astype(np.float32) / 255
    height -= 0.010 * cv2.GaussianBlur(debossed, (0, 0), 0.006 * s)

    base = np.array([0.90, 0.87, 0.80]) + rng.normal(0, 0.008, 3)
    albedo = base.astype(np.float32) + 0.012 * smooth_noise(rng, s, 0.05)[..., None]
    speckles = np.zeros((s, s), np.uint8)
    for _ in range(int(rng.integers(170, 260))):
        spot = (rng.uniform(0.05, 0.95, 2) * s * 16).astype(int).tolist()
        radius = round(rng.gamma(3.0, 0.0011) * s * 16) + 8
        cv2.circle(speckles, spot, radius, int(rng.integers(60, 230)), -1, cv2.LINE_AA, 4)
    albedo = blend(albedo, np.array([0.72, 0.26, 0.18]), speckles.astype(np.float32) / 255)

    ground = 0.13 + 0.02 * smooth_noise(rng, s, 0.4)[..., None] * np.array([1, 1, 1.1], np.float32)
    lamp = lamp_direction(rng)

    if defect is not None:
        r, phi = 0.75 * np.sqrt(mark.uniform()), mark.uniform(0, 2 * np.pi)
        du, dv = r * a * np.cos(phi), r * b * np.sin(phi)
        place = centre + np.array([cos * du - sin * dv, sin * du + cos * dv])
        height, albedo = _damage(height, albedo, defect, place, mark)

    lit = shade(height, albedo, lamp, gloss=0.10)
    shadow = cv2.GaussianBlur(np.roll(inside, (round(0.015 * s), round(0.015 * s)), (0, 1)), (0, 0), 0.02 * s)
    picture = blend(ground * (1 - 0.7 * shadow[..., None]), lit, inside)
    return shrink(tint(rng, picture), side), shrink(inside, side)


def _damage(
    height: Canvas, albedo: Canvas, defect: str, place: NDArray[np.floating], mark: np.random.Generator
) -> tuple[Canvas, Canvas]:
    s = height.shape[0]
    if defect == "color":
        hues = np.array([[0.85, 0.62, 0.15], [0.45, 0.30, 0.20], [0.55, 0.66, 0.35], [0.75, 0.35, 0.45]])
        blob = disc(mark, s, place, log_uniform(mark, 0.010, 0.24)) * mark.uniform(0.35, 0.8)
        albedo = blend(albedo, hues[mark.integers(4)], blob)
    elif defect == "crack":
        width = mark.uniform(0.003, 0.008)
        line = crack(
            mark, s, place, length=log_uniform(mark, 0.05, 0.5), width=width, branches=int(mark.integers(0, 4))
        )
        height -= 0.012 * cv2.GaussianBlur(line, (0, 0), 0.3 * width * s)
        albedo = blend(albedo, np.array([0.20, 0.15, 0.12]), 0.85 * line)
    elif defect == "scratch":
        line = scratches(
            mark, s, place, length=log_uniform(mark, 0.05, 0.4), width=0.005, count=int(mark.integers(1, 5))
        )
        height -= 0.005 * cv2.GaussianBlur(line, (0, 0), 0.003 * s)
        albedo = blend(albedo, albedo * mark.uniform(0.62, 0.75), line)
    else:
        for _ in range(int(mark.integers(1, 4))):
            grain = disc(mark, s, place + mark.normal(0, 0.03, 2), log_uniform(mark, 0.004, 0.05))
            height += 0.012 * cv2.GaussianBlur(grain, (0, 0), 0.004 * s)
            albedo = blend(albedo, np.array([0.12, 0.13, 0.18]) + mark.uniform(0, 0.12), 0.95 * grain)
    return height, albedo
