"""The network that is asked, the class it is asked about, and the layers it can be asked at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid
from defectloc.model import backbones
from defectloc.model.classifier import Classifier


@dataclass(frozen=True)
class RunMap:
    """A map that only a run has: by the network that is given, of images `(N, 3, S, S)`, to `(N, h, w)`."""

    # identifies what it is made of besides the network
    key: str
    maps: Callable[[nn.Module, torch.Tensor], tuple[np.ndarray, Grid]]


@dataclass
class Subject:
    """A classifier of images `(N, 3, S, S)` in 0..255, and what is known about it."""

    network: nn.Module
    classes: list[str]
    image_size: int
    # `(3, 1, 1)`: the colour that the network's preprocessing takes for zero
    blank: torch.Tensor
    # identifies the weights
    key: str = ""
    # reads `(B, 3, S, S)` good training images, for methods that start from examples
    background: Callable[[], torch.Tensor] | None = None
    run_maps: dict[str, RunMap] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the network's weights lie."""
        return next(self.network.parameters()).device

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Give `(N, K)`; counted by nobody, see `Question` for that."""
        return self.network(images.to(self.device).to(memory_format=torch.channels_last))


class Question:
    """One class of a subject; counts the images that it was asked about."""

    def __init__(self, subject: Subject, target: int) -> None:
        """`target`: the index of the class."""
        self.subject, self.target = subject, target
        self.evaluations = 0

    def of_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Give the score `(N,)`: of two classes the log-odds, of more the class's logit."""
        if logits.shape[1] == 2:
            return logits[:, self.target] - logits[:, 1 - self.target]
        return logits[:, self.target]

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Give the score `(N,)` of images `(N, 3, S, S)`."""
        logits = self.subject.logits(images)
        self.evaluations += len(logits)
        return self.of_logits(logits)

    def in_chunks(self, images: torch.Tensor, chunk: int, probability: bool = False) -> torch.Tensor:
        """Give scores or probabilities `(N,)` without gradients, `chunk` images at a time."""
        found = []
        with torch.no_grad():
            for part in images.split(chunk):
                logits = self.subject.logits(part)
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
        # Only the image's and the layers' gradients are asked for; this spares the time and memory of the weights'.
        network.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, is_wanted in wanted:
            parameter.requires_grad_(is_wanted)


def layers(network: nn.Module, image_size: int) -> dict[str, nn.Module]:
    """Name the stages whose output is a map `(N, C, h, w)` of more than one cell, in the order of the image's way."""
    if isinstance(network, Classifier):
        stages = {**dict(network.trunk.named_children()), **dict(network.tail.named_children())}
    else:
        inner = _published(network)
        features = getattr(inner, "features", None)
        prefix, holder = ("features.", features) if isinstance(features, nn.Module) else ("", inner)
        stages = {prefix + name: module for name, module in holder.named_children()}
    shapes = _output_shapes(network, stages, image_size)
    # Images are square, and so are maps; transformers with windows put the channels last.
    return {name: stages[name] for name, shape in shapes.items() if len(shape) == 4 and shape[2] == shape[3] > 1}


def find_layer(subject: Subject, wanted: str | None) -> tuple[str, nn.Module]:
    """Find a layer by name or index among `layers`, or by the dotted name of a part; None: the last before pooling.

    Raises DefectlocError, with a list of the layers, for one that is not there or gives no map.
    """
    known = layers(subject.network, subject.image_size)
    names = list(known)
    if not names:
        raise DefectlocError("this network has no convolutional maps, so methods that need a layer cannot explain it.")
    if wanted is None:
        last = [
            name for name in names if not isinstance(known[name], nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d)
        ]
        return last[-1], known[last[-1]]
    listed = f"there are {', '.join(f'{i} {name}' for i, name in enumerate(names))}"
    if wanted.lstrip("-").isdigit():
        if not -len(names) <= int(wanted) < len(names):
            raise DefectlocError(f"layer={wanted} is out of range; {listed}.")
        wanted = names[int(wanted)]
    if wanted in known:
        return wanted, known[wanted]
    holder = subject.network if isinstance(subject.network, Classifier) else _published(subject.network)
    parts = {name.removeprefix("trunk.").removeprefix("tail."): module for name, module in holder.named_modules()}
    if wanted not in parts:
        raise DefectlocError(f"layer={wanted} is not a layer of this network; {listed}.")
    shapes = _output_shapes(subject.network, {wanted: parts[wanted]}, subject.image_size)
    if len(shapes.get(wanted, ())) != 4 or min(shapes[wanted][2:]) < 2:
        raise DefectlocError(f"layer={wanted} is not convolutional (it gives no map); {listed}.")
    return wanted, parts[wanted]


def grid_of(subject: Subject, layer: nn.Module, cells: int) -> Grid:
    """Tell where the cells of a layer's map lie in the network's input."""
    passed: list[nn.Module] = []
    inside = {id(module) for module in layer.modules()}
    reached = False
    for name, module in subject.network.named_modules():
        if reached and id(module) not in inside:
            break
        reached = reached or module is layer
        if "downsample" not in name.split("."):
            passed.append(module)
    stride, offset = backbones.grid(passed)
    exact = -(-subject.image_size // stride) == cells
    # Of a network whose layers do not stand in the order of the image's way, only the size is known.
    return Grid(stride, offset) if exact else Grid(subject.image_size / cells, (subject.image_size / cells - 1) / 2)


def _published(network: nn.Module) -> nn.Module:
    """Give torchvision's own network, which stands behind the preprocessing."""
    return list(network.children())[-1] if isinstance(network, nn.Sequential) else network


def _output_shapes(network: nn.Module, wanted: dict[str, nn.Module], image_size: int) -> dict[str, tuple[int, ...]]:
    """Pass a grey image through and note the shape of what each module gives, in the order of their turns."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            shapes[name] = tuple(output.shape) if isinstance(output, torch.Tensor) else ()

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in wanted.items()]
    device = next(network.parameters()).device
    try:
        with undisturbed(network), torch.no_grad():
            network(torch.full((1, 3, image_size, image_size), 128.0, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return shapes
