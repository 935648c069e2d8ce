"""Maps whose sign counts, on a photograph: for and against a class, at the pixels or in superpixels."""

import cv2
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap

# Of pixels: red for the class, blue against it, as in SHAP's image plots.
FOR, AGAINST = np.array([255, 0, 81]), np.array([0, 139, 251])
# Of superpixels: green for the class, red against it.
SUPERPIXEL_FOR, SUPERPIXEL_AGAINST = np.array([60, 190, 60]), np.array([220, 50, 50])
BOUND = (255, 230, 0)
WHITE = np.array([255, 255, 255])


def paint_signed(image: np.ndarray, values: np.ndarray, top: float) -> np.ndarray:
    """Show a map `(H, W)` red where positive and blue where negative, over an image `(H, W, 3)` in pale grey.

    `top` is the magnitude of full colour.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    ground = 255 - (255 - grey[..., None].repeat(3, 2)) * 0.35
    share = np.clip(np.abs(values) / max(top, 1e-12), 0, 1)[..., None]
    color = np.where(values[..., None] > 0, FOR, AGAINST)
    return (ground * (1 - share) + color * share).astype(np.uint8)


def paint_superpixels(image: np.ndarray, segments: np.ndarray, values: np.ndarray, top: float) -> np.ndarray:
    """Draw the bounds of superpixels, positive ones green, negative ones red, on an image `(H, W, 3)`.

    `segments` and `values` have any one size; `top` is the magnitude of full colour.
    """
    size = (image.shape[1], image.shape[0])
    large = cv2.resize(segments.astype(np.int32).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    weight = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    share = (0.6 * np.clip(np.abs(weight) / max(top, 1e-12), 0, 1))[..., None]
    color = np.where(weight[..., None] > 0, SUPERPIXEL_FOR, SUPERPIXEL_AGAINST)
    painted = image * (1 - share) + color * share
    bounds = np.zeros(large.shape, bool)
    bounds[:, 1:] |= large[:, 1:] != large[:, :-1]
    bounds[1:] |= large[1:] != large[:-1]
    painted[bounds] = BOUND
    return painted.astype(np.uint8)


def red_and_blue() -> Colormap:
    """Give the colours of `paint_signed`."""
    return LinearSegmentedColormap.from_list("signed", np.stack([AGAINST, WHITE, FOR]) / 255)


def green_and_red() -> Colormap:
    """Give the colours of `paint_superpixels`."""
    return LinearSegmentedColormap.from_list("superpixels", np.stack([SUPERPIXEL_AGAINST, WHITE, SUPERPIXEL_FOR]) / 255)
