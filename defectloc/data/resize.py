"""The one resize, for fit, store, predict and export."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from defectloc.data.images import MULTIPLE, sides_of

# Times the shorter side, beyond which the longer is squeezed: time and memory grow with it.
LONGEST = 8
# Below it a photograph neither lies nor stands; of more than this share on either side, neither way suits.
NEARLY_SQUARE, MIXED = 1.05, 0.25


def resize(image: np.ndarray, image_size: int | Sequence[int]) -> torch.Tensor:
    """Resize an `(H, W, 3)` uint8 image straight to `(3, h, w)` float32 in 0..255, without a crop.

    `image_size` is the side of a square, or height and width.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, sides_of(image_size), mode="bilinear", antialias=True)[0]


def input_size(image_size: int | Sequence[int], sizes: Iterable[tuple[int, int]]) -> int | list[int]:
    """Give the network's input for photographs of `sizes` (height, width): its side, or [height, width].

    An `image_size` of two sides is taken as it is. One is the shorter side; the longer follows from the median of the
    photographs' aspect ratios, as a multiple of 32 and at most `LONGEST` times the shorter, so that a strip keeps its
    small defects. Where many photographs lie and many stand, the input is a square between them.
    """
    if isinstance(image_size, int):
        height, width = np.array(list(sizes), dtype=float).T
        ratios = width / height
        # Of an even number the geometric middle, so that turned photographs have the turned input.
        ratio = float(np.exp(np.median(np.log(ratios))))
        if min((ratios > NEARLY_SQUARE).mean(), (ratios < 1 / NEARLY_SQUARE).mean()) > MIXED:
            ratio = 1.0
        longer = max(1, round(image_size * min(max(ratio, 1 / ratio), LONGEST) / MULTIPLE)) * MULTIPLE
        image_size = [image_size, longer] if ratio > 1 else [longer, image_size]
    return image_size[0] if len(set(image_size)) == 1 else list(image_size)
