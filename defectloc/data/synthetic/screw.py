"""The synthetic screw: seen from the side, at any rotation."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from defectloc.data.synthetic.marks import (
    OVERSAMPLING,
    Canvas,
    blend,
    log_uniform,
    scratches,
    shrink,
    smooth_noise,
    tint,
)

# Radii of the screw along its axis, in units of its length from the top of the head (0) to the tip (1).
_PROFILE_AT = np.array([-0.001, 0.0, 0.012, 0.055, 0.10, 0.145, 0.155, 0.90, 1.0, 1.001])
_PROFILE_RADIUS = np.array([0.0, 0.100, 0.135, 0.145, 0.132, 0.070, 0.060, 0.060, 0.007, 0.0])
_THREAD_FROM, _PITCH, _CREST = 0.30, 0.040, 0.021


def render_screw(
    rng: np.random.Generator, side: int, defect: str | None, mark: np.random.Generator
) -> tuple[Canvas, Canvas]:
    """Render a steel wood screw seen from the side, at any rotation and near the middle, on a bright ground."""
    s = side * OVERSAMPLING
    centre = 0.5 + rng.uniform(-0.07, 0.07, 2)
    angle = float(rng.uniform(0, 2 * np.pi))
    cos, sin = math.cos(angle), math.sin(angle)
    length = 0.72 * float(rng.uniform(0.97, 1.03))
    roll = float(rng.uniform(0, 2 * np.pi))
    y, x = (np.mgrid[0:s, 0:s].astype(np.float32) + 0.5) / s
    right, down = x - float(centre[0]), y - float(centre[1])
    along = (cos * right + sin * down) / length + 0.5
    across = (-sin * right + cos * down) / length

    worn = np.zeros_like(along)
    if defect == "bent_tip":
        along, across = _bend(along, across, mark)
    elif defect == "thread_defect":
        at, reach = float(mark.uniform(0.38, 0.86)), log_uniform(mark, 0.015, 0.14)
        hit_side = int(mark.choice([-1, 1]))
        worn = np.clip(1.5 - np.abs(along - at) / reach, 0, 1) * np.clip(0.9 + hit_side * across / 0.03, 0, 1)

    # Seen from the side a helix is a wave whose phase moves by half a turn between the two edges.
    core = np.interp(along, _PROFILE_AT, _PROFILE_RADIUS).astype(np.float32)
    has_thread = np.clip((along - _THREAD_FROM) / 0.03, 0, 1) * np.clip((0.985 - along) / 0.06, 0, 1)
    turn = np.arcsin(np.clip(across / np.maximum(core + _CREST, 1e-4), -1, 1))
    phase = 2 * np.pi * along / _PITCH + turn + roll
    ridge = (0.5 + 0.5 * np.cos(phase)) ** 1.6 * has_thread * (1 - 0.95 * worn)
    radius = core + _CREST * ridge * np.clip(core / 0.03, 0, 1)
    # The second factor removes the half-covered hairline that a radius of 0 leaves along the axis.
    inside = np.clip((radius - np.abs(across)) * length * s + 0.5, 0, 1) * np.clip(radius * length * s, 0, 1)

    tilt = np.clip(across / np.maximum(radius, 1e-4), -1, 1)
    # The lamp stands still while the part turns under it.
    lamp = math.sin(math.radians(225 + rng.normal(0, 14)) - angle)
    facing = np.clip(0.62 * np.sqrt(1 - tilt**2) + 0.55 * tilt * lamp + 0.18, 0, 1)
    flank = -np.sin(phase) * has_thread * (1 - 0.9 * worn)
    steel = 0.13 + 0.46 * facing + 0.75 * facing**8 + 0.13 * flank + 0.10 * (ridge - 0.4) * has_thread
    steel += 0.035 * np.sin(900 * along + 3 * smooth_noise(rng, s, 0.2)) * (along < _THREAD_FROM)
    steel *= 1 + 0.04 * smooth_noise(rng, s, 0.02)
    steel *= np.where((along > 0.145) & (along < 0.16), np.float32(0.6), np.float32(1.0))
    metal = np.clip(steel, 0.04, 1.1)[..., None] * np.array([0.86, 0.87, 0.90], np.float32)
    if defect == "thread_defect":
        smear = np.array([0.50, 0.49, 0.48]) * (1 + 0.2 * smooth_noise(mark, s, 0.01))[..., None]
        metal = blend(metal, smear, 0.55 * worn * has_thread)
    elif defect == "scratch":
        metal = _scratch(metal, centre, angle, length, mark)

    ground = (0.80 + 0.02 * smooth_noise(rng, s, 0.5))[..., None] * np.array([1.0, 0.995, 0.98], np.float32)
    shadow = cv2.GaussianBlur(np.roll(inside, (round(0.02 * s), round(0.02 * s)), (0, 1)), (0, 0), 0.018 * s)
    picture = blend(ground * (1 - 0.4 * shadow[..., None]), metal, inside)
    return shrink(tint(rng, picture), side), shrink(inside, side)


def _bend(along: Canvas, across: Canvas, mark: np.random.Generator) -> tuple[Canvas, Canvas]:
    start = 1.0 - log_uniform(mark, 0.10, 0.40)
    towards = int(mark.choice([-1, 1]))
    arc = (1 - start) / float(mark.uniform(0.35, 1.0))
    # Beyond `start` the axis runs on a circle, which is unrolled here.
    right, up = along - start, arc - towards * across
    bent = right > 0
    unrolled = start + arc * np.arctan2(right, up)
    return np.where(bent, unrolled, along), np.where(bent, towards * (arc - np.hypot(right, up)), across)


def _scratch(
    metal: Canvas, centre: NDArray[np.floating], angle: float, length: float, mark: np.random.Generator
) -> Canvas:
    s = metal.shape[0]
    at = mark.uniform(0.03, 0.85)
    sideways = mark.uniform(-0.6, 0.6) * float(np.interp(at, _PROFILE_AT, _PROFILE_RADIUS))
    axis = np.array([np.cos(angle), np.sin(angle)])
    place = centre + length * ((at - 0.5) * axis + sideways * np.array([-axis[1], axis[0]]))
    line = scratches(mark, s, place, length=log_uniform(mark, 0.03, 0.22), width=0.006, count=int(mark.integers(1, 5)))
    rut = np.roll(line, (round(0.003 * s), round(0.003 * s)), (0, 1))
    metal = blend(metal, np.array([0.10, 0.10, 0.10]), 0.6 * rut)
    return blend(metal, np.array([0.98, 0.98, 1.00]), 0.9 * line)
