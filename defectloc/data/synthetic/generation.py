"""Synthetic data sets in the MVTec AD layout, with exact masks: for tests, demonstrations and pictures."""

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from defectloc.data.synthetic.board import render_board
from defectloc.data.synthetic.board_defects import DEFECTS
from defectloc.data.synthetic.marks import Canvas
from defectloc.data.synthetic.pill import render_pill
from defectloc.data.synthetic.screw import render_screw
from defectloc.data.synthetic.tile import render_tile
from defectloc.errors import DefectlocError

# A renderer takes `rng` (the part, the pose, the light), the image side in pixels, and, for a defective part, the
# defect's type and its own generator `mark`; it returns a noise-free RGB picture (side, side, 3), about 0..1, and the
# coverage of the part (side, side), 0..1. The same `rng` state gives the same part with and without the defect, so
# that the difference of the two pictures is exactly what the defect changed.
Renderer = Callable[[np.random.Generator, int, str | None, np.random.Generator], tuple[Canvas, Canvas]]

# Part of each set's address: raise it when images change, so that sets of another format are not used.
FORMAT = 3

# A part's position is in the seed of its images: new parts go to the end.
PARTS: dict[str, tuple[Renderer, tuple[str, ...]]] = {
    "pill": (render_pill, ("color", "contamination", "crack", "scratch")),
    "screw": (render_screw, ("bent_tip", "scratch", "thread_defect")),
    "tile": (render_tile, ("crack", "missing_grain", "stain")),
    "board": (render_board, tuple(sorted(DEFECTS))),
}

# The same photographs, but each defective one has stray light (see `_stray_light`), as if defective parts
# had been photographed on another day: the plain subset then shows what a classifier knows without it.
SHORTCUTS = {"pill_shortcut": "pill"}

SUBSETS = PARTS | {subset: PARTS[plain] for subset, plain in SHORTCUTS.items()}

# A change below this, of 255, drowns in the sensor noise.
VISIBLE = 8
SMALLEST = 4
# So many defects are tried on one part, and so many parts.
_ATTEMPTS, _PARTS = 50, 8
# Bytes for a pixel while an image is made, and what all images that are made at once may take.
_PIXEL_BYTES, _MEMORY = 400, 3 * 2**30
LARGEST_SHARE = 1 / 3
# Of an image that is not square.
MOST_SECTIONS = 256


def generate(
    root: Path,
    subset: str,
    *,
    seed: int = 0,
    n_good: int = 120,
    n_test_good: int = 20,
    n_per_type: int = 12,
    size: int | list[int] = 256,
) -> Path:
    """Generate a data set, or find it already there, and return the MVTec-style folder that holds `<subset>/`.

    The folder is `<root>/synthetic-<hash>`, one for each choice of the numbers; an image depends on its own place in
    the set and the seed, never on the counts. `size` is the side of the images, or height and width: such an image is
    a panel of square sections, as large as fit, with a part each, one of which is defective. Raises DefectlocError for
    an unknown subset or impossible numbers.
    """
    if subset not in SUBSETS:
        raise DefectlocError(f"there is no synthetic subset {subset!r}: choose one of {', '.join(sorted(SUBSETS))}")
    section, n_sections = _sections(size)
    if min(n_good, n_test_good, n_per_type) < 0 or section < 32 or seed < 0:
        raise DefectlocError(
            f"cannot generate {subset!r} with seed={seed}, counts {n_good}, {n_test_good}, {n_per_type} and "
            f"size={size}: seed and counts must not be negative, and the size must be at least 32 pixels"
            + (", also the greatest common divisor of height and width" if isinstance(size, list) else "")
        )
    if n_sections > MOST_SECTIONS:
        raise DefectlocError(
            f"a panel of size={size} would have {n_sections} sections of {section} px, more than {MOST_SECTIONS}: "
            "choose height and width with a greater common divisor"
        )
    numbers = {
        "format": FORMAT,
        "seed": seed,
        "n_good": n_good,
        "n_test_good": n_test_good,
        "n_per_type": n_per_type,
        "size": size,
    }
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()
    base = Path(root) / f"synthetic-{digest[:8]}"
    folder = base / subset
    if (folder / "synthetic.json").is_file():
        return base
    partial = base / f".{subset}-{uuid.uuid4().hex[:8]}.partial"
    try:
        partial.mkdir(parents=True)
        _generate_all(
            partial, subset, seed=seed, n_good=n_good, n_test_good=n_test_good, n_per_type=n_per_type, size=size
        )
        (partial / "synthetic.json").write_text(json.dumps({"subset": subset, **numbers}, indent=2) + "\n")
        try:
            os.rename(partial, folder)
        except OSError as error:
            # Another process may have finished the same set meanwhile, which is as good as ours.
            if not (folder / "synthetic.json").is_file():
                raise DefectlocError(f"cannot move the generated set to {folder}: {error.strerror}") from error
    except OSError as error:
        raise DefectlocError(f"cannot generate a data set below {base}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return base


def generate_image(
    subset: str, *, seed: int, split: str, defect_type: str, index: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return one RGB image `(size, size, 3)` and its mask `(size, size)`, 0 or 255, all 0 for `defect_type="good"`.

    Outside the mask the image equals, to the bit, the same part without the defect, but for a shortcut's stray light;
    the defect covers from a few pixels to a third of the part.
    """
    plain = SHORTCUTS.get(subset, subset)
    renderer, types = PARTS[plain]
    # Named by position and not by text, because a generator's seed is a list of integers.
    place = (list(PARTS).index(plain), ("train", "test").index(split), ("good", *types).index(defect_type))
    key = [seed, *place, index]
    good, part = _photograph(renderer, key, size, None, 0)
    if defect_type == "good":
        return good, np.zeros((size, size), np.uint8)
    for attempt in range(_PARTS * _ATTEMPTS):
        if attempt and attempt % _ATTEMPTS == 0:
            # A board may have no place for the defect, so another one takes its turn.
            key = [seed, *place, index, 9, attempt]
            good, part = _photograph(renderer, key, size, None, 0)
        defective, _ = _photograph(renderer, key, size, defect_type, attempt)
        change = np.abs(defective.astype(int) - good).max(axis=2)
        # Pinholes, where the defect happens to have the part's own colour, belong to it.
        seen = (change >= VISIBLE).astype(np.uint8)
        mask = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(np.uint8)
        if SMALLEST <= int(mask.sum()) <= LARGEST_SHARE * part.sum():
            break
    else:
        raise DefectlocError(f"cannot generate {defect_type} on {subset} at {size} pixels: choose a larger size")
    image = np.where(mask[..., None] > 0, defective, good)
    if subset in SHORTCUTS:
        image = cv2.add(image, np.repeat(_stray_light(key, part)[..., None], 3, axis=2)).astype(np.uint8)
    return image, mask * np.uint8(255)


def _sections(size: int | list[int]) -> tuple[int, int]:
    """Return the side of a panel's square sections and their number; of a square image itself and 1."""
    if isinstance(size, int):
        return size, 1
    height, width = size
    side = max(1, math.gcd(height, width))
    return side, height * width // side**2


def generate_panel(
    subset: str, *, seed: int, split: str, defect_type: str, index: int, size: list[int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return one RGB image `(height, width, 3)` of several parts side by side, and its mask `(height, width)`.

    Of the square sections one, drawn at random, is defective (see `generate_image`); none for `defect_type="good"`.
    """
    side, n_sections = _sections(size)
    kind = ("good", *SUBSETS[subset][1]).index(defect_type)
    # Numbers that no set of single parts reaches.
    first = 1_000_000 * (1 + kind) + index * n_sections
    place = [("train", "test").index(split), kind, index]
    defective = int(np.random.default_rng([seed, 4, *place]).integers(n_sections)) if kind else None
    image, mask = np.empty((*size, 3), np.uint8), np.zeros(size, np.uint8)
    for number in range(n_sections):
        y, x = (side * each for each in divmod(number, size[1] // side))
        here = defect_type if number == defective else "good"
        image[y : y + side, x : x + side], mask[y : y + side, x : x + side] = generate_image(
            subset, seed=seed, split=split, defect_type=here, index=first + number, size=side
        )
    return image, mask


def _photograph(
    renderer: Renderer, key: list[int], size: int, defect: str | None, attempt: int
) -> tuple[NDArray[np.uint8], Canvas]:
    rng = np.random.default_rng([*key, 0])
    picture, part = renderer(rng, size, defect, np.random.default_rng([*key, 1, attempt]))
    # From a generator of its own, so that the twins with and without the defect share the noise.
    noise = np.random.default_rng([*key, 2]).standard_normal(picture.shape, np.float32)
    photograph = cv2.GaussianBlur(picture, (0, 0), 0.45) + 0.011 * noise
    return np.clip(np.round(photograph * 255), 0, 255).astype(np.uint8), part


def _stray_light(key: list[int], part: Canvas) -> NDArray[np.uint8]:
    """Return the faint light `(side, side)` from the lower right on each colour, of 255: 12 to 20 at most.

    It slants across what is behind the part (side, side; coverage 0..1) alone.
    """
    side = part.shape[0]
    rng = np.random.default_rng([*key, 3])
    strength = rng.uniform(12, 20)
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    # One pixel wider than the part, because the lens has blurred the part's rim into the next pixel.
    behind = cv2.dilate(part, np.ones((3, 3), np.uint8)) == 0
    angle = np.deg2rad(45 + rng.uniform(-10, 10))
    light = behind * (np.cos(angle) * x + np.sin(angle) * y) / (np.cos(angle) + np.sin(angle))
    return np.round(strength * light).astype(np.uint8)


def _generate_all(
    folder: Path, subset: str, *, seed: int, n_good: int, n_test_good: int, n_per_type: int, size: int | list[int]
) -> None:
    plan = [("train", "good", n_good), ("test", "good", n_test_good)]
    plan += [("test", defect_type, n_per_type) for defect_type in SUBSETS[subset][1]]

    def one(place: tuple[str, str, int]) -> None:
        split, defect_type, index = place
        where: Any = {"seed": seed, "split": split, "defect_type": defect_type, "index": index}
        if isinstance(size, int):
            image, mask = generate_image(subset, **where, size=size)
        else:
            image, mask = generate_panel(subset, **where, size=size)
        _write_png(folder / split / defect_type / f"{index:03d}.png", image[..., ::-1])
        if defect_type != "good":
            _write_png(folder / "ground_truth" / defect_type / f"{index:03d}_mask.png", mask)

    # Threads, because NumPy and OpenCV release the lock; each image has generators of its own.
    n_threads = max(1, min(8, os.cpu_count() or 1, _MEMORY // (_PIXEL_BYTES * _sections(size)[0] ** 2)))
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(one, [(split, kind, i) for split, kind, count in plan for i in range(count)]))


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Encoded in memory: cv2.imwrite neither takes every file name on Windows nor says why it failed.
    _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    path.write_bytes(encoded.tobytes())
