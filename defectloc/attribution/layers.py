"""The layers of a network whose outputs are maps: by name, and where their cells lie."""

from collections.abc import Callable

import torch
from torch import nn

from defectloc.attribution.network import ExplainedModel, undisturbed
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid
from defectloc.model.classifier import Classifier
from defectloc.model.grids import cells_after


def layers(network: nn.Module, image_size: tuple[int, int]) -> dict[str, nn.Module]:
    """Name the stages whose output is a map `(N, C, h, w)` of more than one cell, from the input to the output."""
    if isinstance(network, Classifier):
        stages = {**dict(network.trunk.named_children()), **dict(network.tail.named_children())}
    else:
        inner = _published(network)
        features = getattr(inner, "features", None)
        prefix, holder = ("features.", features) if isinstance(features, nn.Module) else ("", inner)
        stages = {prefix + name: module for name, module in holder.named_children()}
    shapes = _output_shapes(network, stages, image_size)
    return {name: stages[name] for name, shape in shapes.items() if len(shape) == 4 and _is_map(shape, image_size)}


def find_layer(model: ExplainedModel, wanted: str | None) -> tuple[str, nn.Module]:
    """Find a layer by name or index among `layers`, or by the dotted name of a part; None: the last before pooling.

    Raises DefectlocError, with a list of the layers, for one that is not there or gives no map.
    """
    known = layers(model.network, model.image_size)
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
    holder = model.network if isinstance(model.network, Classifier) else _published(model.network)
    parts = {name.removeprefix("trunk.").removeprefix("tail."): module for name, module in holder.named_modules()}
    if wanted not in parts:
        raise DefectlocError(f"layer={wanted} is not a layer of this network; {listed}.")
    shapes = _output_shapes(model.network, {wanted: parts[wanted]}, model.image_size)
    if len(shapes.get(wanted, ())) != 4 or min(shapes[wanted][2:]) < 2:
        raise DefectlocError(f"layer={wanted} is not convolutional (it gives no map); {listed}.")
    return wanted, parts[wanted]


def grid_of(model: ExplainedModel, layer: nn.Module, cells: tuple[int, int]) -> Grid:
    """Tell where the cells of a layer's map lie in the network's input, by their number in (height, width).

    Raises DefectlocError where only their number is known, and by it they are no squares.
    """
    passed: list[nn.Module] = []
    inside = {id(module) for module in layer.modules()}
    reached = False
    for name, module in model.network.named_modules():
        if reached and id(module) not in inside:
            break
        reached = reached or module is layer
        if "downsample" not in name.split("."):
            passed.append(module)
    stride, offset = cells_after(passed)
    if all(-(-side // stride) == n_cells for side, n_cells in zip(model.image_size, cells, strict=True)):
        return Grid(stride, offset)
    # Of a network whose modules are not registered in the order of their use, only the map's size is known.
    high, wide = (side / n_cells for side, n_cells in zip(model.image_size, cells, strict=True))
    if high != wide:
        height, width = model.image_size
        raise DefectlocError(
            f"where the {cells[0]} x {cells[1]} cells of that layer lie in an input of {height} x {width} pixels is "
            "not known for this network: take another layer, or a method that needs none."
        )
    return Grid(high, (high - 1) / 2)


def _published(network: nn.Module) -> nn.Module:
    """Give torchvision's own network, which comes after the preprocessing."""
    return list(network.children())[-1] if isinstance(network, nn.Sequential) else network


def _is_map(shape: tuple[int, ...], image_size: tuple[int, int]) -> bool:
    """Tell whether the last two of a shape's four sides are of more than one cell and have the image's aspect.

    Transformers with windows put the channels last: there the two before have it.
    """
    height, width = image_size

    def deviation(high: int, wide: int) -> int:
        return abs(high * width - wide * height)

    # But for a rounded cell, and for some that convolutions without padding leave out at the border.
    has_aspect = deviation(*shape[2:]) < max(height, width) + 4 * abs(height - width)
    return min(shape[2:]) > 1 and has_aspect and deviation(*shape[2:]) <= deviation(*shape[1:3])


def _output_shapes(
    network: nn.Module, wanted: dict[str, nn.Module], image_size: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """Pass a grey image through and note the shape of each module's output, in the order of their use."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            shapes[name] = tuple(output.shape) if isinstance(output, torch.Tensor) else ()

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in wanted.items()]
    device = next(network.parameters()).device
    try:
        with undisturbed(network), torch.no_grad():
            network(torch.full((1, 3, *image_size), 128.0, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return shapes
