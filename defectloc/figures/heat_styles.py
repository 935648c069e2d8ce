"""What a map looks like on a photograph: heat, for and against, or superpixels."""

import cv2
import numpy as np
from matplotlib import colormaps

FOR, AGAINST = np.array([255, 0, 81]), np.array([0, 139, 251])
SPEAKS_FOR, SPEAKS_AGAINST = np.array([60, 190, 60]), np.array([220, 50, 50])


def heat_on(
    image: np.ndarray,
    heat: np.ndarray,
    scale: tuple[float, float],
    colormap: str,
    opacity: float,
    photo_opacity: float | None = None,
) -> np.ndarray:
    """Lay a map `(H, W)` on an image `(H, W, 3)` uint8; `scale` = values of no and of full colour.

    Where it is cold the photograph stays as it is, unless `photo_opacity` is given: then both are added, with these
    two weights everywhere.
    """
    share = np.clip((heat - scale[0]) / max(scale[1] - scale[0], 1e-12), 0, 1)
    color = colormaps[colormap](share)[..., :3] * 255
    if photo_opacity is not None:
        return np.clip(color * opacity + image * photo_opacity, 0, 255).astype(np.uint8)
    weight = (opacity * share)[..., None]
    return (image * (1 - weight) + color * weight).astype(np.uint8)


def for_and_against(image: np.ndarray, heat: np.ndarray, top: float) -> np.ndarray:
    """Show a signed map `(H, W)` red where it speaks for the class, blue where against, over the image in pale grey.

    `top` is the magnitude of full colour: the look of SHAP's image plots.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    ground = 255 - (255 - grey[..., None].repeat(3, 2)) * 0.35
    share = np.clip(np.abs(heat) / max(top, 1e-12), 0, 1)[..., None]
    color = np.where(heat[..., None] > 0, FOR, AGAINST)
    return (ground * (1 - share) + color * share).astype(np.uint8)


def superpixels_on(image: np.ndarray, segments: np.ndarray, heat: np.ndarray, top: float) -> np.ndarray:
    """Draw the bounds of superpixels, those for the class green, those against it red, the stronger the fuller.

    `segments` and `heat` have any one size; `top` is the magnitude of full colour.
    """
    size = (image.shape[1], image.shape[0])
    large = cv2.resize(segments.astype(np.int32).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    weight = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    share = (0.6 * np.clip(np.abs(weight) / max(top, 1e-12), 0, 1))[..., None]
    color = np.where(weight[..., None] > 0, SPEAKS_FOR, SPEAKS_AGAINST)
    drawn = image * (1 - share) + color * share
    bounds = np.zeros(large.shape, bool)
    bounds[:, 1:] |= large[:, 1:] != large[:, :-1]
    bounds[1:] |= large[1:] != large[:-1]
    drawn[bounds] = (255, 230, 0)
    return drawn.astype(np.uint8)
