"""Convolutions padded as TensorFlow pads them: an output of 1/stride of the input's size, the odd pixel at its end."""

import torch
import torch.nn.functional as F
from torch import nn


class SamePaddedConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding 'SAME', which no symmetric padding of torch gives where stride is 2."""

    def pads(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Give the zeros before and after the columns, then before and after the rows, of maps of this size."""
        rows, columns = (self._pad(axis, size) for axis, size in enumerate((height, width)))
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2

    def _pad(self, axis: int, size: int) -> int:
        stride = self.stride[axis]
        return max((-(-size // stride) - 1) * stride + self.kernel_size[axis] - size, 0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve maps `(N, C, H, W)`."""
        return super().forward(F.pad(input, self.pads(*input.shape[2:])))
