"""Ground-truth masks: which pixels of an image are defective.

Masks are read apart from photographs, because a pixel of a mask is a statement and not a colour: the same file can be a
black-and-white picture, a table of class numbers, or a drawing on a transparent ground.
"""

from collections import defaultdict
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from defectloc.data.images import decode, deep_values, find_images
from defectloc.errors import DefectlocError
from defectloc.notes import say_once

# A picture of class numbers has few of them; a mask that was blurred or scaled has few levels only where it is small.
_MOST_CLASSES = 16
# Of a mask that marks more than this share somebody may have meant the black pixels.
_NEARLY_ALL = 0.95


class MaskFiles:
    """The masks below a folder, found by the stems of their images, never by their places in a list."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._paths: dict[tuple[PurePosixPath, str], list[str]] = defaultdict(list)
        for path in find_images(folder):
            inner = PurePosixPath(path.relative_to(folder).as_posix())
            self._paths[inner.parent, path.stem].append(path.relative_to(root).as_posix())

    def of(self, image: Path) -> str | None:
        """Find the mask of an image, given relative to the folder of all types, as `<stem>_mask.*` or `<stem>.*`."""
        for stem in (f"{image.stem}_mask", image.stem):
            found = self._paths.get((PurePosixPath(image.parent.as_posix()), stem), [])
            if len(found) > 1:
                raise DefectlocError(f"{found[0]} and {found[1]} may both be the mask of {image}; remove one.")
            if found:
                return found[0]
        return None


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a ground-truth mask as `(H, W)` bool, True on defects, resized to `size` `(height, width)` by nearest.

    Black is good. In a black-and-white picture (8 or 16 bits, grey or colour by its brightest channel) what is above
    half of white is a defect, which also binarises masks that were scaled or stored as JPEG. In a table of class
    numbers any number but 0 is a defect: 0/1 and one-bit masks, palettes (black is good, or colour 0 where no pixel is
    black), and files that keep values exactly in which nothing is above half of white or a darker grey fills an area.
    Where a file has transparent pixels they are good, and the opaque ones defects, but for black ones beside others.
    Another size, greys, class numbers and nearly all pixels marked are each said once. Raises DefectlocError
    as `read_image` does, and for height and width exchanged.
    """
    image, kind = decode(path)
    mask = _defects(image, kind in ("JPEG", "MPO") or "jpeg" in str(image.info.get("compression", "")), path)
    if mask.mean() > _NEARLY_ALL:
        say_once("mask full", f"{path} marks {mask.mean():.0%} of its pixels as a defect; in a mask black is good.")
    if size is None or mask.shape == size:
        return mask
    if mask.shape == size[::-1]:
        raise DefectlocError(
            f"{path} is {_sides(mask.shape)}, its photograph {_sides(size)}: it was probably drawn on the photograph "
            "before its rotation (EXIF orientation); turn the mask as well."
        )
    return _resized(mask, size, size, path)


def read_ignore_mask(path: Path, size: tuple[int, int], photograph: tuple[int, int] | None = None) -> np.ndarray:
    """Read the pixels that count for no score, white as in `read_mask`, as `(H, W)` bool, resized to `size` by nearest.

    `photograph` is the (height, width) that the mask ought to have, `size` if None; another is said once, and is never
    an error, as one ignore mask serves all photographs.
    """
    return _resized(read_mask(path), size, photograph or size, path)


def _resized(mask: np.ndarray, size: tuple[int, int], photograph: tuple[int, int], path: Path) -> np.ndarray:
    if mask.shape != photograph:
        say_once(
            "mask size", f"{path} is {_sides(mask.shape)}, not {_sides(photograph)}; such masks are resized by nearest."
        )
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"


def read_defect_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the mask of a defective image as `(H, W)` bool; raises DefectlocError, naming the file, where it is empty.

    Where `size` is so small that resizing by nearest loses every pixel of the defect, the pixels that it fell on are
    marked instead.
    """
    mask = read_mask(path)
    if not mask.any():
        raise DefectlocError(
            f"{path} marks no pixel, though its image is defective; correct or remove the mask: an image without "
            "a mask is left out of the scores of pixels and boxes."
        )
    if size is None or mask.shape == size:
        return mask
    small = read_mask(path, size)
    if not small.any():
        rows, columns = np.nonzero(mask)
        small = np.zeros(size, bool)
        small[rows * size[0] // mask.shape[0], columns * size[1] // mask.shape[1]] = True
    return small


def _defects(image: Image.Image, lossy: bool, path: Path) -> np.ndarray:
    if image.mode == "F":
        raise DefectlocError(f"{path} holds floating-point numbers; convert it to 8 or 16 bits.")
    if image.mode == "1":
        return np.array(image)
    if image.mode.startswith("I"):
        deep = deep_values(image, path)
        # An 8-bit mask in a 16-bit file keeps its numbers.
        return _of_grey(deep, 255 if deep.max() <= 255 else 65535, lossy, path)
    if image.has_transparency_data:
        bands = np.array(image.convert("RGBA"))
        opaque = bands[..., 3] > 127
        if not opaque.all():
            black = bands[..., :3].max(axis=2) == 0
            return opaque & ~black if (opaque & ~black).any() else opaque
    colours = np.array(image.convert("RGB"))
    grey = bool((colours == colours[..., :1]).all())
    if image.mode in ("P", "PA") and not grey:
        black = colours.max(axis=2) == 0
        return ~black if black.any() else np.array(image.getchannel(0)) != 0
    if image.mode == "P" and not colours.any():
        # A palette that was never filled.
        return np.array(image) != 0
    return _of_grey(colours.max(axis=2).astype(np.int64), 255, lossy, path)


def _of_grey(values: np.ndarray, white: int, lossy: bool, path: Path) -> np.ndarray:
    """Tell defects in grey values `(H, W)` of 0..`white`, as class numbers or as a black-and-white picture."""
    if not lossy and _are_classes(values, white):
        if values.max() > 1:
            say_once("mask classes", f"{path} holds class numbers; in such masks any but 0 is a defect.")
        return values > 0
    if ((values != 0) & (values != white)).any():
        say_once("mask values", f"{path} holds greys; in such masks above {white // 2} of {white} is a defect.")
    return values > white // 2


def _are_classes(values: np.ndarray, white: int) -> bool:
    if values.max() <= white // 2:
        return True
    if len(np.unique(values)) > _MOST_CLASSES:
        return False
    # Interpolation leaves dark greys along rims; a class fills areas, of 3 x 3 pixels at least.
    levels, cross = values.astype(np.float32), np.ones((3, 3), np.uint8)
    same = cv2.erode(levels, cross) == cv2.dilate(levels, cross)
    return bool((same & (levels > 0) & (levels <= white // 2))[1:-1, 1:-1].any())
