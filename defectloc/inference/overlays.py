"""Overlays: photographs with the map and the boxes of their predictions, named after them."""

import hashlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from defectloc.figures.overlay import paint_boxes, paint_map, png
from defectloc.files import atomic
from defectloc.inference.prediction import Prediction
from defectloc.localization.boxes import CORNERS

# Bytes of a part of a path; most file systems take 255, of which a temporary name needs some.
LONGEST = 200


def write_overlay(
    folder: Path, name: str, image: NDArray[np.uint8], found: Prediction, scale: tuple[float, float]
) -> None:
    """Paint map and boxes on an image `(H, W, 3)`; `scale` = values of the map of no and of full colour."""
    painted = paint_map(image, found.anomaly_map, scale)
    with atomic(folder / overlay_name(name), durable=False) as temporary:
        temporary.write_bytes(png(paint_boxes(painted, found.boxes[CORNERS].to_numpy(), 2)))


def overlay_name(name: str) -> str:
    """Name the overlay of an image after it, `a/b.jpg.png` for `a/b.jpg`, so that a.png and a.jpg do not meet.

    A name that would leave the folder (`../b.jpg`, `/a/b.jpg`) or is too long gets another, with a hash of it.
    """
    parts = PurePosixPath(name).parts
    short = [_shortened(part) for part in parts if part not in ("/", "//", "..")]
    if tuple(short) == parts:
        return f"{name}.png"
    *above, last = short
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]
    return "/".join([*above, f"{last}-{digest}.png"])


def _shortened(part: str) -> str:
    encoded = part.encode()
    return part if len(encoded) <= LONGEST else encoded[: LONGEST - 20].decode(errors="ignore")
