"""The one resize, for fit, store, predict and export."""

import numpy as np
import torch
import torch.nn.functional as F


def resize(image: np.ndarray, image_size: int) -> torch.Tensor:
    """Resize an `(H, W, 3)` uint8 image straight to `(3, image_size, image_size)` float32 in 0..255, without a crop."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, (image_size, image_size), mode="bilinear", antialias=True)[0]
