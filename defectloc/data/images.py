"""Image files in, 8-bit RGB arrays out.

Pillow decodes, not OpenCV: OpenCV hands back half-decoded pixels for a truncated file without an error.
"""

import math
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from defectloc.errors import DefectlocError
from defectloc.notes import say_once

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
# Tags of TIFF.
_WIDTH, _HEIGHT, _PHOTOMETRIC = 256, 257, 262


def is_image_name(path: Path) -> bool:
    """Tell by its name whether a file counts as an image; hidden files never do."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def find_images(folder: Path) -> list[Path]:
    """List the image files below a folder, sorted, so that the order is the same on every machine.

    Hidden files and folders are left out; links to folders are followed, each folder once on the way down.
    """
    found: list[Path] = []
    _walk(folder, frozenset(), found)
    return sorted(found)


def _walk(folder: Path, above: frozenset[str], found: list[Path]) -> None:
    """Add the images below a folder; `above` are the real paths of the folders it lies in, against links in circles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as entries:
            names = [(entry.name, entry.is_dir()) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise DefectlocError(f"the folder {folder} cannot be read ({error}).") from error
    for name, is_folder in names:
        path = folder / name
        if is_folder and not name.startswith("."):
            _walk(path, above | {real}, found)
        elif not is_folder and is_image_name(path) and path.is_file():
            found.append(path)


def decode(path: Path) -> tuple[Image.Image, str]:
    """Decode an image file upright, as its EXIF orientation says, in the mode it has, with the name of its format.

    Of the pictures that a telephone packs into one JPEG the first is taken. Raises DefectlocError for what is no image,
    is cut short, or holds several pictures of one size (an animation, a stack of pages).
    """
    try:
        with Image.open(path) as image:
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

    Grey becomes three equal channels, 16 bits become 8 by dividing by 257, a palette is looked up, and transparent
    pixels are laid on white. Raises DefectlocError for what is no image, is cut short, holds several pictures or
    floating-point numbers.
    """
    image, _ = decode(path)
    if image.mode.startswith("I"):
        deep = deep_values(image, path)
        if 0 < deep.max() < 4096:
            say_once(
                "few bits",
                f"{path} has 16 bits, but no value above {deep.max()} of 65535, so that it becomes nearly black with "
                f"{(deep.max() + 128) // 257 + 1} grey levels; stretch such images to the whole range.",
            )
        grey = ((deep + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise DefectlocError(f"{path} holds floating-point numbers; convert it to 8 or 16 bits.")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, picture).convert("RGB"))
    return np.array(image.convert("RGB"))


def deep_values(image: Image.Image, path: Path) -> np.ndarray:
    """Return the values `(H, W)` of a 16-bit grey picture, 0 to 65535; raises DefectlocError outside that."""
    deep = np.asarray(image).astype(np.int64)
    if deep.min() < 0 or deep.max() > 65535:
        raise DefectlocError(f"{path} holds values outside 0..65535; convert it to 8 or 16 bits.")
    return deep


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
