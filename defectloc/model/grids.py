"""Where the cells of a level lie on the image, and a level's values at the cells of another."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from defectloc.model.same_padding import SamePaddedConv2d

# (stride, offset): cell i has its centre at offset + stride * i pixels of the input.
StrideOffset = tuple[float, float]


def interpolate(values: torch.Tensor, grid: StrideOffset, onto: StrideOffset, size: tuple[int, int]) -> torch.Tensor:
    """Give `(N, C, h, w)` on `grid` at the centres of `size` cells of the grid `onto`, bilinear: `(N, C, *size)`.

    Beyond the outermost centres the values are those of the border.
    """
    if grid == onto and tuple(values.shape[2:]) == size:
        return values
    # Not by torch's interpolate, which knows no offsets: it takes both grids to begin at one corner.
    rows, columns = (
        shares(n_cells, n_wanted, grid, onto).to(values)
        for n_cells, n_wanted in zip(values.shape[2:], size, strict=True)
    )
    # Whatever the memory format, so that the products sum in one order.
    return rows @ values.contiguous() @ columns.T


def shares(n_cells: int, n_wanted: int, grid: StrideOffset, onto: StrideOffset) -> torch.Tensor:
    """Give the share of each cell in each wanted one, `(n_wanted, n_cells)`; rows sum to 1."""
    centres = onto[1] + onto[0] * torch.arange(n_wanted, dtype=torch.float64)
    places = ((centres - grid[1]) / grid[0]).clamp(0, n_cells - 1)
    return (1 - (places[:, None] - torch.arange(n_cells)).abs()).clamp_min(0)


def cells_after(modules: Iterable[nn.Module]) -> StrideOffset:
    """Give the grid of the last map of layers, from the image on, that are passed one after another.

    A layer of kernel k, stride s and padding p puts its cell i at (k - 1) / 2 - p + s * i of its own input. A layer
    that pads as TensorFlow does has the middle of its window up to half a stride further to the lower right, but what
    it has learnt looks at the middle of the cell's own share of the input (measured: docs/backbones.md).
    """
    stride, offset = 1.0, 0.0
    for module in modules:
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            continue
        kernel, step, padding = (_first(v) for v in (module.kernel_size, module.stride, module.padding))
        # timm's class of that name pads alike: by the image's own sides, which the strides divide.
        is_same_padded = isinstance(module, SamePaddedConv2d) or type(module).__name__ == "Conv2dSame"
        offset += ((step - 1) / 2 if is_same_padded else (kernel - 1) / 2 - padding) * stride
        stride *= step
    return stride, offset


def _first(value: Any) -> int:
    return value if isinstance(value, int) else value[0]
