"""What this machine's convolutions reach at best, and how many operations a network takes."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# (batch, channels, side): VGG16's heaviest 3x3 layers.
SHAPES = ((8, 128, 112), (8, 256, 56), (8, 512, 28), (10, 512, 14))


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Time a function after a first call that does not count."""
    function()
    return float(np.median([seconds(function) for _ in range(repeats)]))


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def operations(function: Callable[[], object]) -> int:
    """Count the floating-point operations of convolutions and matrix products, backward passes included."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def convolution_peak(device: str, repeats: int, shapes: Sequence[tuple[int, int, int]] = SHAPES) -> float:
    """Measure the most floating-point operations per second of any of VGG16's heavy layers, in either layout."""
    best = 0.0
    with torch.inference_mode():
        for n, channels, side in shapes:
            for layout in (torch.contiguous_format, torch.channels_last):
                layer = nn.Conv2d(channels, channels, 3, padding=1, device=device).to(memory_format=layout)
                values = torch.randn(n, channels, side, side, device=device).to(memory_format=layout)

                def once(layer: nn.Module = layer, values: torch.Tensor = values) -> None:
                    layer(values)
                    wait(device)

                count = operations(once)
                best = max(best, count / min(seconds(once) for _ in range(repeats)))
    return best


def wait(device: str) -> None:
    """Let a GPU finish, since its calls come back before it has."""
    if device == "cuda":
        torch.cuda.synchronize()
