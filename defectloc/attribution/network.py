"""The network that is explained, and the score of one of its classes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from numpy.typing import NDArray
from torch import nn

from defectloc.data.tiles import Size, Tiling
from defectloc.localization.maps import Grid


@dataclass(frozen=True)
class ExtraMap:
    """A map that is made of more than the network; `map` takes the network and a photograph `(H, W, 3)` uint8."""

    # identifies what it is made of besides the network
    key: str
    # gives `(h, w)` float32 and where the cells lie in the network's input
    map: Callable[[nn.Module, NDArray], tuple[NDArray, Grid]]
    # None: the photograph is seen whole, at the model's size
    tiling: Tiling | None = None

    def evaluations(self, size: Size) -> int:
        """Count the images that go through the network for a photograph of `size` native pixels."""
        return 1 if self.tiling is None else len(self.tiling.corners(size))


@dataclass
class ExplainedModel:
    """A classifier of images `(N, 3, H, W)` in 0..255, and what is known about it."""

    network: nn.Module
    classes: list[str]
    # height and width of its input in pixels
    image_size: tuple[int, int]
    # `(3, 1, 1)`: the colour that the network's preprocessing turns into zero
    baseline: torch.Tensor
    # identifies the weights
    key: str = ""
    # reads `(B, 3, H, W)` good training images, for methods that start from examples
    background: Callable[[], torch.Tensor] | None = None
    # by the name of the method
    extra_maps: dict[str, ExtraMap] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the network's weights lie."""
        return next(self.network.parameters()).device

    def input_size(self, method: str, size: Size) -> Size:
        """Give the height and width at which a method sees a photograph of `size` native pixels."""
        own = self.extra_maps.get(method)
        if own is None or own.tiling is None:
            return self.image_size
        return own.tiling.input_size(size)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Give `(N, K)`; not counted, see `ClassScore` for that."""
        return self.network(images.to(self.device).to(memory_format=torch.channels_last))


class ClassScore:
    """The score of one class: of two classes the log-odds, of more the class's logit; counts its evaluations."""

    def __init__(self, model: ExplainedModel, target: int) -> None:
        """`target`: the index of the class."""
        self.model, self.target = model, target
        # images that went through the network
        self.evaluations = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Give the score `(N,)` of images `(N, 3, H, W)`."""
        logits = self.model.logits(images)
        self.evaluations += len(logits)
        return self.of_logits(logits)

    def of_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Give the score `(N,)` of logits `(N, K)`."""
        if logits.shape[1] == 2:
            return logits[:, self.target] - logits[:, 1 - self.target]
        return logits[:, self.target]

    def in_batches(self, images: torch.Tensor, batch_size: int, probability: bool = False) -> torch.Tensor:
        """Give scores or probabilities `(N,)` without gradients, `batch_size` images at a time."""
        found = []
        with torch.no_grad():
            for part in images.split(batch_size):
                logits = self.model.logits(part)
                self.evaluations += len(logits)
                found.append(logits.softmax(1)[:, self.target] if probability else self.of_logits(logits))
        return torch.cat(found)


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients of its weights; all is as before afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        network.eval()
        # Only the image's and the layers' gradients are needed; this spares the time and memory of the weights'.
        network.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, is_wanted in wanted:
            parameter.requires_grad_(is_wanted)
