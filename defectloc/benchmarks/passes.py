"""How many images go through a frozen trunk."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

COLOURS = 3


@dataclass
class Passes:
    """How many images went through a trunk."""

    images: int = 0


@contextlib.contextmanager
def counted_passes() -> Iterator[Passes]:
    """Count the images that go through the trunk of any classifier meanwhile.

    Each passes the first convolution, the only one over three colours, once; where that is trained, nothing is frozen.
    """
    passes = Passes()

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == COLOURS and not module.weight.requires_grad:
            passes.images += len(inputs[0])

    # torch's hook on all modules, since the commands make their networks themselves.
    handle = register_module_forward_pre_hook(note)
    try:
        yield passes
    finally:
        handle.remove()
