"""Numbers that a key may have."""

import math
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from defectloc.errors import DefectlocError

# More than any machine has cores; a system refuses some number above it without a word that helps.
MOST_THREADS = 1024
# Sides of a tile in native pixels: below it there is nothing to see, above it no photograph; and the most that two
# neighbours may share of one.
SMALLEST_TILE, LARGEST_TILE, MOST_OVERLAP = 32, 2**14, 0.5


def positive(key: str, value: float) -> None:
    """Raise DefectlocError unless a key's value is greater than 0 and finite."""
    if not 0 < value < math.inf:
        raise DefectlocError(f"{key}={value} must be greater than 0 and finite.")


def is_positive(text: str) -> bool:
    """Tell whether a text is a number greater than 0 and finite."""
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def checked_image_size(value: Any) -> int | list[int]:
    """Return data.image_size as the side of a square or as [height, width]; raises DefectlocError for anything else."""
    sides = [value] if isinstance(value, int) else value
    whole = isinstance(sides, list) and all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or len(sides) not in (1, 2) or any(side <= 0 or side % 32 for side in sides):
        given = str(value).replace(" ", "")
        raise DefectlocError(
            f"data.image_size={given} must be a multiple of 32, for example 224, or two as [height,width]."
        )
    if max(sides) > sys.maxsize:
        raise DefectlocError("the value of data.image_size is too large for a number.")
    return sides[0] if len(set(sides)) == 1 else sides


def check_tiles(tiles: Any, overlap: float, image_size: int | list[int]) -> None:
    """Raise DefectlocError for a `data.tiles` that is no side of a tile, and for an input that no tile has."""
    if not 0 <= overlap <= MOST_OVERLAP:
        raise DefectlocError(f"data.tile_overlap={overlap} must lie in [0, {MOST_OVERLAP}]: a share of a tile.")
    if tiles == "none":
        return
    whole = isinstance(tiles, int) and not isinstance(tiles, bool)
    if tiles != "auto" and not (whole and SMALLEST_TILE <= tiles <= LARGEST_TILE):
        raise DefectlocError(
            f"data.tiles={tiles} must be none, auto or the side of a tile in native pixels, from {SMALLEST_TILE} to "
            f"{LARGEST_TILE}."
        )
    if not isinstance(image_size, int):
        given = str(image_size).replace(" ", "")
        raise DefectlocError(f"data.tiles={tiles} needs square inputs; data.image_size={given} is none, give one side.")


def check_synthetic_size(value: Any) -> None:
    """Raise DefectlocError unless `data.synthetic_size` is the side of a square or [height, width]."""
    sides = [value] if isinstance(value, int) else value
    whole = isinstance(sides, list) and all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or len(sides) not in (1, 2) or max(sides) > LARGEST_TILE or min(sides) < 1:
        given = str(value).replace(" ", "")
        raise DefectlocError(
            f"data.synthetic_size={given} must be the side of a square in pixels, or [height,width], at most "
            f"{LARGEST_TILE}."
        )


def check_numbers(settings: Any) -> None:
    """Raise DefectlocError for integers that no machine can follow, and for counts and seeds out of range."""
    for key, value in _integers(settings):
        if abs(value) > sys.maxsize:
            raise DefectlocError(f"the value of {key} is too large for a number.")
    for key in ("threads", "batch_size", "n", "columns"):
        if getattr(settings, key, None) is not None:
            positive(key, getattr(settings, key))
    if (getattr(settings, "threads", None) or 0) > MOST_THREADS:
        raise DefectlocError(f"threads={settings.threads} must be at most {MOST_THREADS}.")
    if getattr(settings, "seed", 0) < 0:
        raise DefectlocError(f"seed={settings.seed} must not be negative.")


def _integers(settings: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in vars(settings).items():
        if is_dataclass(value):
            yield from _integers(value, f"{prefix}{key}.")
        elif isinstance(value, int):
            yield prefix + key, value
