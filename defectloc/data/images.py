"""Image files in, 8-bit RGB arrays out.

Pillow decodes, not OpenCV: OpenCV hands back half-decoded pixels for a truncated file without an error.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from defectloc.errors import DefectlocError
from defectloc.notes import say_once

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def is_image_name(path: Path) -> bool:
    """Tell by its name whether a file counts as an image; hidden files never do."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def find_images(folder: Path) -> list[Path]:
    """List the image files below a folder, sorted, so that the order is the same on every machine."""
    return sorted(path for path in folder.rglob("*") if is_image_name(path) and path.is_file())


def read_image(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, upright as its EXIF orientation says.

    Grey becomes three equal channels, 16 bits become 8 by dividing by 257, a palette is looked up, and transparent
    pixels are laid on white. Raises DefectlocError for what is no image, is cut short or holds floating-point numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image), path)
    except FileNotFoundError as error:
        raise DefectlocError(f"{path} does not exist.") from error
    except UnidentifiedImageError as error:
        raise DefectlocError(f"{path} is not an image that can be read; remove or replace it.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DefectlocError(f"{path} has more pixels than can be trusted ({error}).") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DefectlocError(f"{path} is damaged ({error}); remove or replace it.") from error


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode.startswith("I;16") or image.mode == "I":
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise DefectlocError(f"{path} holds values outside 0..65535; convert it to 8 or 16 bits.")
        grey = ((deep + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise DefectlocError(f"{path} holds floating-point numbers; convert it to 8 or 16 bits.")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, picture).convert("RGB"))
    return np.array(image.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """Read (height, width) of an image as `read_image` would return it, without decoding the pixels."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):
                # Pillow may have turned its size already.
                width, height = image.tag_v2[256], image.tag_v2[257]
            # Orientations 5 to 8 of EXIF tag 274 swap the sides.
            return (width, height) if image.getexif().get(274) in (5, 6, 7, 8) else (height, width)
    except (OSError, SyntaxError, ValueError) as error:
        raise DefectlocError(f"{path} is not an image that can be read; remove or replace it.") from error


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a ground-truth mask as (H, W) bool: brought to `size` (height, width) by nearest, then cut above 127.

    Another size and other values than 0 and 255 are said once.
    """
    mask = Image.fromarray(read_image(path)[:, :, 0])
    if size is not None and mask.size != (size[1], size[0]):
        was = f"{mask.size[1]} x {mask.size[0]}"
        say_once("mask size", f"{path} is {was}, its image {size[0]} x {size[1]}; such masks are resized by nearest.")
        mask = mask.resize((size[1], size[0]), Image.Resampling.NEAREST)
    values = np.asarray(mask)
    if ((values != 0) & (values != 255)).any():
        say_once("mask values", f"{path} holds values other than 0 and 255; in such masks above 127 is a defect.")
    return values > 127
