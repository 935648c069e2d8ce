"""Image files in, 8-bit RGB arrays out.

Pillow decodes, not OpenCV: OpenCV hands back half-decoded pixels for a truncated file without an error.
"""

import heapq
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from defectloc.errors import DefectlocError
from defectloc.notes import say_once

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
# Of a folder; a million photographs may lie in one.
NAMES_AT_ONCE = 2**16
# Sides of a network's input are multiples of it.
MULTIPLE = 32
# Of an output of `predict`: its record, and the folder beside it, whose pictures are no photographs.
PREDICTED, OVERLAYS = "predict.json", "overlays"
# Tags of TIFF.
_WIDTH, _HEIGHT, _PHOTOMETRIC = 256, 257, 262


def is_image_name(path: PurePath) -> bool:
    """Tell by its name whether a file counts as an image; hidden files never do."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def find_images(folder: Path) -> list[Path]:
    """List the image files below a folder as `walk` gives them."""
    return [folder / name for name in walk(folder)]


def walk(folder: Path, left_out: Path | None = None) -> Iterator[str]:
    """Give the names of the image files below a folder, relative to it, sorted by their parts on every machine alike.

    Hidden files and folders are left out, the overlays of `predict`, and the folder `left_out`; links to folders are
    followed, each folder once on the way down. However many files a folder has, few names are held at once. Raises
    DefectlocError for a folder that cannot be read.
    """
    yield from _walk(str(folder), "", frozenset(() if left_out is None else [os.path.realpath(left_out)]))


def _walk(folder: str, prefix: str, shut: frozenset[str]) -> Iterator[str]:
    """Walk below a folder; `shut` are the real paths not to enter, also of the folders above, against links in circles.

    Names are taken in pieces, the smallest first: it costs a look into the folder per piece, not memory.
    """
    real, after = os.path.realpath(folder), ""
    if real in shut:
        return
    while True:
        piece = _entries_after(folder, after)
        for name, is_folder in piece:
            if is_folder:
                if name == OVERLAYS and os.path.isfile(os.path.join(folder, PREDICTED)):
                    continue
                yield from _walk(os.path.join(folder, name), f"{prefix}{name}/", shut | {real})
            else:
                yield prefix + name
        if len(piece) < NAMES_AT_ONCE:
            return
        after = piece[-1][0]


def _entries_after(folder: str, after: str) -> list[tuple[str, bool]]:
    """List the first entries of a folder after a name, sorted: visible folders (True) and image files (False)."""
    try:
        with os.scandir(folder) as entries:
            later = ((entry.name, entry.is_dir()) for entry in entries if entry.name > after and _counts(entry))
            return heapq.nsmallest(NAMES_AT_ONCE, later)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise DefectlocError(f"the folder {folder} cannot be read ({error}).") from error


def _counts(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir():
        return not entry.name.startswith(".")
    return is_image_name(Path(entry.name)) and entry.is_file()


def decode(path: Path) -> tuple[Image.Image, str]:
    """Decode an image file upright, as its EXIF orientation says, in the mode it has, with the name of its format.

    Of the pictures that a telephone packs into one JPEG the first is taken. Raises DefectlocError for what is no image,
    is cut short, or holds several pictures of one size (an animation, a stack of pages).
    """
    try:
        # Given a path Pillow maps the file into memory, where a turned TIFF has other sides than it thinks.
        with path.open("rb") as file, Image.open(file) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise DefectlocError(f"{path} has more pixels than can be accepted: {image.width} x {image.height}.")
            image.load()
            upright, kind = ImageOps.exif_transpose(image), str(image.format)
            if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0 and image.mode == "I;16":
                # Pillow turns negatives (0 is white) round for 8 bits only.
                upright = Image.fromarray(65535 - np.asarray(upright))
            if kind in ("PNG", "TIFF") and _n_alike(image) > 1:
                raise DefectlocError(f"{path} holds several pictures; save the one that is meant as a file.")
            return upright, kind
    except FileNotFoundError as error:
        raise DefectlocError(f"{path} does not exist.") from error
    except UnidentifiedImageError as error:
        raise DefectlocError(f"{path} is not an image that can be read; remove or replace it.") from error
    except Image.DecompressionBombError as error:
        raise DefectlocError(f"{path} has more pixels than can be accepted ({error}).") from error
    except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, TypeError) as error:
        # Pillow's readers answer damaged bytes with all of these.
        raise DefectlocError(f"{path} is damaged ({error}); remove or replace it.") from error


def _n_alike(image: Image.Image) -> int:
    """Count the pictures in a file that have the size of the first; a TIFF may hold smaller previews as well."""
    n_frames, size = getattr(image, "n_frames", 1), image.size
    alike = 1
    for frame in range(1, n_frames):
        image.seek(frame)
        alike += image.size == size
    return alike


def read_image(path: Path) -> np.ndarray:
    """Read an image as `(H, W, 3)` uint8 RGB, upright as its EXIF orientation says.

    Grey becomes three equal channels. 16 bits become 8: of grey by dividing by 257 and rounding, of colours by their
    upper byte. A palette is looked up, and transparent pixels are laid on white. Raises DefectlocError for what is no
    image, is cut short, holds several pictures or floating-point numbers.
    """
    image, _ = decode(path)
    if image.mode.startswith("I"):
        deep = deep_values(image, path)
        _say_few_bits(deep, path)
        return np.repeat(_eight_bits(deep)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise DefectlocError(f"{path} holds floating-point numbers; convert it to 8 or 16 bits.")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, picture).convert("RGB"))
    return np.array(image.convert("RGB"))


def rgb_of_array(values: Any) -> np.ndarray:
    """Give a photograph `(H, W)` grey or `(H, W, 3)` RGB, uint8 or uint16, as `read_image` gives a file: 8-bit RGB.

    Raises DefectlocError for other shapes and types, whose colours or range would have to be guessed.
    """
    array = np.asarray(values)
    is_photograph = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype not in (np.uint8, np.uint16) or not is_photograph or not array.size:
        raise DefectlocError(
            f"an image of shape {array.shape} and type {array.dtype} cannot be predicted; give an array (H, W) or "
            "(H, W, 3) of uint8 or uint16."
        )
    if array.dtype == np.uint16:
        deep = array.astype(np.int64)
        _say_few_bits(deep, "the array")
        # Of the colours in a file Pillow keeps the upper byte.
        array = (deep >> 8).astype(np.uint8) if array.ndim == 3 else _eight_bits(deep)
    return np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else np.ascontiguousarray(array)


def _eight_bits(deep: np.ndarray) -> np.ndarray:
    """Divide values 0 to 65535 by 257, rounded."""
    return ((deep + 128) // 257).astype(np.uint8)


def _say_few_bits(deep: np.ndarray, what: Path | str) -> None:
    """Say once where little is left of values 0 to 65535 in 8 bits."""
    if 0 < deep.max() < 4096:
        say_once(
            "few bits",
            f"{what} has 16 bits, but no value above {deep.max()} of 65535, so that it becomes nearly black with "
            f"{(deep.max() + 128) // 257 + 1} grey levels; stretch such images to the whole range.",
        )


def deep_values(image: Image.Image, path: Path) -> np.ndarray:
    """Return the values `(H, W)` of a 16-bit grey picture, 0 to 65535; raises DefectlocError outside that."""
    deep = np.asarray(image).astype(np.int64)
    if deep.min() < 0 or deep.max() > 65535:
        raise DefectlocError(f"{path} holds values outside 0..65535; convert it to 8 or 16 bits.")
    return deep


def sides_of(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of a network's input that is given as the side of a square or as both."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width


def image_size(path: Path) -> tuple[int, int]:
    """Read `(height, width)` of an image as `read_image` would return it, without decoding the pixels."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):
                # Pillow may have turned its size already.
                width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
            # Orientations 5 to 8 of EXIF tag 274 swap the sides.
            return (width, height) if image.getexif().get(274) in (5, 6, 7, 8) else (height, width)
    except FileNotFoundError as error:
        raise DefectlocError(f"{path} does not exist.") from error
    except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, TypeError) as error:
        raise DefectlocError(f"{path} is not an image that can be read; remove or replace it.") from error
    except Image.DecompressionBombError as error:
        raise DefectlocError(f"{path} has more pixels than can be accepted ({error}).") from error
