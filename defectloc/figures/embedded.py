"""Pictures as text that stands inside a page: data URIs of bounded size, and paths of SVG."""

import base64
import io

import cv2
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from defectloc.figures.overlay import COLORMAP
from defectloc.figures.thumbnails import shrink_image, shrink_mask, thumbnail_size

# In bytes before base64, which adds a third: a hundred photographs with heat maps stay below 15 MB.
PHOTOGRAPH_BYTES = 84_000
QUALITIES = (82, 70, 55, 40)
# Longer side in pixels: four times the finest grid of cells, between which a browser interpolates.
HEAT_MAP_SIDE = 112
# Of an outline: characters, and the longer sides in pixels at which it is tried.
OUTLINE_LENGTH, OUTLINE_SIDES = 12_000, (640, 320, 160, 80)


def photograph_uri(image: NDArray[np.uint8], side: int) -> str:
    """Encode an image `(H, W, 3)` as WebP of a longer side of at most `side` pixels, coarser where it needs more bytes.

    Noise compresses badly; then quality falls first, and the size after it, until it needs at most `PHOTOGRAPH_BYTES`.
    """
    height, width = image.shape[:2]
    side = min(side, max(height, width))
    while True:
        picture = Image.fromarray(shrink_image(image, thumbnail_size(height, width, side)))
        for quality in QUALITIES:
            content = _encoded(picture, "WEBP", quality=quality)
            if len(content) <= PHOTOGRAPH_BYTES or (side <= 32 and quality == QUALITIES[-1]):
                return _uri(content, "image/webp")
        side //= 2


def picture_uri(picture: Image.Image) -> str:
    """Encode a drawn figure as WebP at its own size."""
    return _uri(_encoded(picture.convert("RGB"), "WEBP", quality=85), "image/webp")


def heat_map_uri(values: NDArray, scale: tuple[float, float]) -> str:
    """Encode a map `(h, w)` as a PNG of 8 bits whose palette holds colour and opacity.

    `scale` = values of no and of full colour: the same for all images, so that a colour means the same on each.
    """
    low, high = scale
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    picture = Image.fromarray(np.rint(share * 255).astype(np.uint8))
    picture.putpalette((colormaps[COLORMAP](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes())
    return _uri(_encoded(picture, "PNG", transparency=bytes(range(256)), optimize=True), "image/png")


def color_stops(n: int = 9) -> list[str]:
    """Give n colours of the heat map from none to full, as CSS writes them, opacity included."""
    return [
        f"rgb({int(255 * r)} {int(255 * g)} {int(255 * b)} / {share:.2f})"
        for share in np.linspace(0, 1, n)
        for r, g, b, _ in [colormaps[COLORMAP](share)]
    ]


def outline_path(mask: NDArray[np.bool_]) -> str:
    """Write the outer outlines of a mask `(H, W)` as the path of an SVG with a view box of `W x H`.

    A mask of so many specks that the path would be long is outlined more coarsely; an empty one gives no text.
    """
    height, width = mask.shape
    path = ""
    for side in OUTLINE_SIDES:
        size = thumbnail_size(height, width, min(side, max(height, width)))
        # A pixel of margin, so that the line does not cover what it surrounds and a single pixel has one.
        small = shrink_mask(mask, size, margin=1).astype(np.uint8)
        contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        scale = np.array([width / size[1], height / size[0]])
        path = "".join(_closed((contour[:, 0] + 0.5) * scale) for contour in contours)
        if len(path) <= OUTLINE_LENGTH:
            break
    return path


def _closed(points: NDArray[np.float64]) -> str:
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points) + "Z"


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, format=kind, **options)  # type: ignore[arg-type]
    return content.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
