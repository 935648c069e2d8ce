"""Checks of the keys `data.*` that need no image."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from defectloc.config import DataConfig
from defectloc.data.images import MULTIPLE
from defectloc.errors import DefectlocError
from defectloc.ranges import positive

# Sides of a tile in native pixels: below it there is nothing to see, above it no photograph; and the most that two
# neighbours may share of one.
SMALLEST_TILE, LARGEST_TILE, MOST_OVERLAP = 32, 2**14, 0.5


def check_data(data: DataConfig) -> None:
    """Raise DefectlocError for values out of range, and for keys of another source."""
    _check_source(data)
    data.image_size = _checked_image_size(data.image_size)
    _check_synthetic_size(data.synthetic_size)
    _check_tiles(data.tiles, data.tile_overlap, data.image_size)
    if not 0 <= data.validation < 1:
        raise DefectlocError(f"data.validation={data.validation} must lie in [0, 1): a share of each training fold.")
    if not 0 <= data.min_confidence <= 1:
        raise DefectlocError(f"data.min_confidence={data.min_confidence} must lie in [0, 1].")
    if not 0 <= data.split_seed < 2**32:
        raise DefectlocError(f"data.split_seed={data.split_seed} must lie in [0, 2^32).")
    if data.limit is not None:
        positive("data.limit", data.limit)
    if data.n_defective is not None and data.split == "given":
        raise DefectlocError(
            "data.n_defective needs data.split=kfold, where it keeps so many defects for training, or official, where "
            "it moves them from test to training."
        )
    if data.n_defective is not None and data.n_defective < 0:
        raise DefectlocError(f"data.n_defective={data.n_defective} must not be negative.")
    if data.ignore_mask is not None and not _found(data.ignore_mask, data.root):
        raise DefectlocError(f"data.ignore_mask={data.ignore_mask} does not exist.")
    if data.annotations is not None and not Path(data.annotations).expanduser().exists():
        raise DefectlocError(f"data.annotations={data.annotations} does not exist.")


def _check_source(data: DataConfig) -> None:
    """Refuse keys of another source, which would have no effect."""
    for each in fields(data):
        sources, value = each.metadata["sources"], getattr(data, each.name)
        # Numbers have a default, and do no harm.
        if sources and str(data.name) not in sources and each.default is None and value is not None:
            raise DefectlocError(
                f"data.{each.name}={value} is for data={' or data='.join(sources)}, and the source is data={data.name}."
            )


def _found(name: str, root: str | None) -> bool:
    path = Path(name).expanduser()
    # Without a typed root the source knows where its images lie, and the check is made there.
    return path.is_file() or root is None or (Path(root).expanduser() / path).is_file()


def _sides(value: Any) -> list[int]:
    """Return one side or two, of 1 pixel or more, as a list; an empty one for anything else."""
    sides = value if isinstance(value, list) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    return sides if whole and len(sides) in (1, 2) else []


def _checked_image_size(value: Any) -> int | list[int]:
    """Return data.image_size as the shorter side or as [height, width]; raises DefectlocError for anything else."""
    sides = _sides(value)
    if not sides or any(side % MULTIPLE for side in sides):
        given = str(value).replace(" ", "")
        raise DefectlocError(
            f"data.image_size={given} must be a multiple of {MULTIPLE}, for example 224, or two as [height,width]."
        )
    if max(sides) > sys.maxsize:
        raise DefectlocError("the value of data.image_size is too large for a number.")
    return sides[0] if len(sides) == 1 else sides


def _check_tiles(tiles: Any, overlap: float, image_size: int | list[int]) -> None:
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
    if len(set(_sides(image_size))) > 1:
        given = str(image_size).replace(" ", "")
        raise DefectlocError(f"data.tiles={tiles} are squares, and data.image_size={given} has two sides; give one.")


def _check_synthetic_size(value: Any) -> None:
    """Raise DefectlocError unless `data.synthetic_size` is the side of a square or [height, width]."""
    sides = _sides(value)
    if not sides or max(sides) > LARGEST_TILE:
        given = str(value).replace(" ", "")
        raise DefectlocError(
            f"data.synthetic_size={given} must be the side of a square in pixels, or [height,width], at most "
            f"{LARGEST_TILE}."
        )
