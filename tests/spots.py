"""Grey photographs of two sizes whose defect is a bright spot, for runs in tiles."""

from pathlib import Path

import cv2
import numpy as np


def photograph(rng: np.random.Generator, height: int, width: int, spot: tuple[int, int] | None = None) -> np.ndarray:
    """Draw a grey photograph whose defect is a bright spot of 10 px."""
    image = rng.integers(90, 110, (height, width, 3)).astype(np.uint8)
    if spot is not None:
        y, x = spot
        image[y : y + 10, x : x + 10] = 250
    return image


def write_photographs(root: Path) -> list[str]:
    """Write photographs of two sizes; defective ones have a spot anywhere, and a mask. Gives the settings for them."""
    rng = np.random.default_rng(0)
    for label in ("good", "bad"):
        for number in range(24 if label == "good" else 12):
            height, width = (128, 192) if number % 2 else (160, 96)
            spot = tuple(rng.integers(10, [height - 20, width - 20])) if label == "bad" else None
            path = root / label / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), photograph(rng, height, width, spot))
            if spot is not None:
                mask = np.zeros((height, width), np.uint8)
                mask[spot[0] : spot[0] + 10, spot[1] : spot[1] + 10] = 255
                (root / "masks").mkdir(exist_ok=True)
                cv2.imwrite(str(root / "masks" / f"{number:02d}.png"), mask)
    masks = f"data.masks={root / 'masks'}"
    return [f"data.root={root}", f"data.good={root / 'good'}", f"data.defective={root / 'bad'}", masks]
