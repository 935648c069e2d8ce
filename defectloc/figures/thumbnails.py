"""Photographs, masks and boxes at the small size at which a figure shows them."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray


def thumbnail_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return (height, width) in pixels of a picture whose longer side becomes `side`, each at least 1."""
    factor = side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def shrink_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image `(H, W, 3)` to `size` = (height, width), or enlarge one that is smaller."""
    interpolation = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation).astype(np.uint8, copy=False)


def shrink_mask(mask: NDArray[np.bool_], size: tuple[int, int], margin: int = 0) -> NDArray[np.bool_]:
    """Resize a mask `(H, W)` to `size` = (height, width) so that no pixel of it is lost: touched means masked.

    It grows by `margin` pixels of the result, so that its outline does not cover what it surrounds.
    """
    interpolation = cv2.INTER_AREA if size[0] < mask.shape[0] or size[1] < mask.shape[1] else cv2.INTER_NEAREST
    small = (cv2.resize(mask.astype(np.float32), size[::-1], interpolation=interpolation) > 0).astype(np.uint8)
    return cv2.dilate(small, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)) > 0


def shrink_boxes(boxes: ArrayLike, native: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int64]:
    """Scale half-open boxes `(N, 4)` x0, y0, x1, y1 from (height, width) `native` to `size`; each keeps a pixel."""
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    scaled = np.rint(corners * np.tile([size[1] / native[1], size[0] / native[0]], 2)).astype(np.int64)
    scaled[:, :2] = np.minimum(scaled[:, :2], np.array(size[::-1]) - 1)
    scaled[:, 2:] = np.maximum(scaled[:, 2:], scaled[:, :2] + 1)
    return scaled
