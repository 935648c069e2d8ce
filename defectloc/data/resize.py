"""The one resize, for fit, store, predict and export."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from defectloc.data.images import sides_of


def resize(image: np.ndarray, image_size: int | Sequence[int]) -> torch.Tensor:
    """Resize an `(H, W, 3)` uint8 image straight to `(3, h, w)` float32 in 0..255, without a crop.

    `image_size` is the side of a square, or height and width.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, sides_of(image_size), mode="bilinear", antialias=True)[0]
