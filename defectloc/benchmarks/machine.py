"""What this machine's convolutions reach at best, and how many operations a network asks for."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

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


def convolution_peak(device: str, repeats: int, shapes: Sequence[tuple[int, int, int]] = SHAPES) -> float:
    """Measure the most floating-point operations per second of any of VGG16's heavy layers, in either layout."""
    best = 0.0
    with torch.inference_mode():
        for n, channels, side in shapes:
            for layout in (torch.contiguous_format, torch.channels_last):
                layer = nn.Conv2d(channels, channels, 3, padding=1, device=device).to(memory_format=layout)
                values = torch.randn(n, channels, side, side, device=device).to(memory_format=layout)
                operations = 2.0 * n * side * side * channels * channels * 9

                def once(layer: nn.Module = layer, values: torch.Tensor = values) -> None:
                    layer(values)
                    wait(device)

                once()
                best = max(best, operations / min(seconds(once) for _ in range(repeats)))
    return best


def operations(stages: nn.Module, inputs: torch.Tensor) -> tuple[float, float]:
    """Count the operations of the convolutions of a forward pass, and of the first one alone."""
    counts: list[float] = []

    def note(module: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counts.append(2.0 * output.numel() * module.weight[0].numel())

    hooks = [m.register_forward_hook(note) for m in stages.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.inference_mode():
            stages(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts), counts[0] if counts else 0.0


def wait(device: str) -> None:
    """Let a GPU finish, since its calls come back before it has."""
    if device == "cuda":
        torch.cuda.synchronize()
