"""3x3 convolutions with a quarter of the multiplications, for inference on a processor.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR
2016): overlapping tiles of 6x6 pixels and the kernels are transformed, multiplied channel by channel in 36 matrix
products, and transformed back to tiles of 4x4 pixels. That is 2.25 multiplications for a pixel and a pair of channels
instead of 9; the values differ from those of the plain sum by rounding.
"""

import copy
import itertools
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

# Sides of a tile of the output, of the input that it takes, and of the kernel.
TILE, TAKEN, KERNEL = 4, 6, 3
# What is done along each axis to the input, to the kernel and to the products.
OF_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
OF_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OF_PRODUCTS = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
# The one of the 36 products that counts once in every pixel of its tile: row 1, column 1.
ONCE_EVERYWHERE = TAKEN + 1
# With fewer channels the transforms cost what the products save.
FEWEST_CHANNELS = 128
# Bytes of what is transformed at a time: more leaves the processor's cache, and takes up to twice the time.
STRIP = 8 * 2**20

Model = TypeVar("Model", bound=nn.Module)


class WinogradConv2d(nn.Module):
    """What a convolution that `is_suited` gives, but for rounding; for inference."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Transform the kernels, which then take four times the memory."""
        super().__init__()
        self.out_channels, self.bias = convolution.out_channels, convolution.bias
        # (9, C, D); moved about before they are double, which takes half the time.
        taps = convolution.weight.detach().cpu().flatten(2).permute(2, 1, 0).contiguous()
        kernels = (_both_axes(OF_KERNEL) @ taps.flatten(1).double()).to(convolution.weight)
        self.register_buffer("kernels", kernels.unflatten(1, taps.shape[1:]))
        self.register_buffer("of_input", _both_axes(OF_INPUT).to(convolution.weight))
        self.register_buffer("of_products", _both_axes(OF_PRODUCTS).to(convolution.weight))
        self.train(convolution.training)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Give `(N, D, h, w)` of `(N, C, h, w)`, channels last."""
        n, n_channels, height, width = values.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        border = (1, TILE * columns + 1 - width, 1, TILE * rows + 1 - height)
        padded = F.pad(values.permute(0, 2, 3, 1), (0, 0, *border))
        whole = values.new_empty(n, rows, TILE, columns, TILE, self.out_channels)
        bytes_of_row = n * columns * TAKEN**2 * (n_channels + self.out_channels) * values.element_size()
        step = max(1, STRIP // max(1, bytes_of_row))
        for row in range(0, rows, step):
            strip = whole[:, row : row + step]
            strip.copy_(self._strip(padded[:, TILE * row : TILE * (row + step) + TAKEN - TILE]))
        return whole.view(n, TILE * rows, TILE * columns, -1)[:, :height, :width].permute(0, 3, 1, 2)

    def _strip(self, values: torch.Tensor) -> torch.Tensor:
        """Give `(N, rows, 4, columns, 4, D)` of rows of tiles `(N, 4 rows + 2, 4 columns + 2, C)`."""
        tiles = values.unfold(1, TAKEN, TILE).unfold(2, TAKEN, TILE)
        n, rows, columns, n_channels, *_ = tiles.shape
        # (6, 6, N, rows, columns, C) as a matrix, so that each transform is one product.
        taken = self.get_buffer("of_input") @ tiles.permute(4, 5, 0, 1, 2, 3).reshape(TAKEN**2, -1)
        products = torch.bmm(taken.view(TAKEN**2, -1, n_channels), self.get_buffer("kernels"))
        if self.bias is not None:
            products[ONCE_EVERYWHERE] += self.bias
        found = self.get_buffer("of_products") @ products.flatten(1)
        return found.view(TILE, TILE, n, rows, columns, self.out_channels).permute(2, 3, 0, 4, 1, 5)


def _both_axes(of_one: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    matrix = torch.tensor(of_one, dtype=torch.float64)
    return torch.kron(matrix, matrix)


def is_suited(module: nn.Module) -> bool:
    """Tell whether a layer is a 3x3 convolution of stride 1 that keeps the size, of enough channels to gain by it."""
    return (
        # No kind of it, which may compute otherwise.
        type(module) is nn.Conv2d
        and module.kernel_size == (KERNEL, KERNEL)
        and module.stride == module.padding == module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and module.groups == 1
        and min(module.in_channels, module.out_channels) >= FEWEST_CHANNELS
    )


def with_winograd(model: Model) -> Model:
    """Give a copy of a model whose suited convolutions are computed so; it shares all other weights with the model."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for name, module in list(twin.named_modules()):
        if is_suited(module):
            twin.set_submodule(name, WinogradConv2d(module))
    return twin
