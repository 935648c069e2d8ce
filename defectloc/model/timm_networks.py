"""Any backbone of timm with levels: a chain of stages where timm knows it as one, else a single frozen one."""

import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from defectloc.errors import DefectlocError
from defectloc.model.grids import StrideOffset, cells_after
from defectloc.model.timm_package import timm

# What a backbone's name begins with, so that timm's resnet50 is not taken for torchvision's.
PREFIX = "timm:"
# Of the levels for the memory bank, as those of ResNet.
STRIDES = (8, 16)
Options = dict[str, Any]


class Stage(nn.Sequential):
    """A stage of a chain whose output is a level."""

    def __init__(self, module: nn.Module, cells: StrideOffset, channels: int) -> None:
        """Its cells, as (stride, offset) in pixels of the input, and its channels."""
        super().__init__(module)
        self.cells, self.channels = cells, channels


class Features(nn.Module):
    """A whole network that gives several levels in one pass."""

    def __init__(self, network: nn.Module, cells: Mapping[str, StrideOffset], channels: Sequence[int]) -> None:
        """The cells of each level by its name, from the first to the last, and its channels."""
        super().__init__()
        self.network, self.cells, self.channels = network, dict(cells), list(channels)
        self._has_channels_last = _is_format(network, "NHWC")

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give all levels `(N, C, h, w)` of normalised images `(N, 3, H, W)`."""
        found = {}
        for name, values in zip(self.cells, self.network(images), strict=True):
            found[name] = values.permute(0, 3, 1, 2) if self._has_channels_last else values
        return found


def stages(backbone: str) -> "OrderedDict[str, nn.Module]":
    """Give a network of timm as named stages, untrained: as a chain, or as one stage of the class `Features`.

    Raises DefectlocError where timm is not installed, or has no such network with levels.
    """
    return cut(network_of(backbone.removeprefix(PREFIX))[0])


def cut(network: Any) -> "OrderedDict[str, nn.Module]":
    """Take a network that gives its levels apart into stages."""
    info = network.feature_info
    known = {
        name.replace(".", "_"): (_cells(network, name, reduction), channels)
        for name, reduction, channels in zip(info.module_name(), info.reduction(), info.channels(), strict=True)
    }
    if not _is_chain(network, list(known)):
        cells = {name: each for name, (each, _) in known.items()}
        return OrderedDict(network=Features(network, cells, [channels for _, channels in known.values()]))
    return OrderedDict(
        (name, Stage(module, *known[name]) if name in known else module) for name, module in network.items()
    )


def _is_chain(network: nn.Module, levels: list[str]) -> bool:
    """Tell whether timm runs the children one after another, the last of which is a level with the channels first."""
    names = [name for name, _ in network.named_children()]
    return (
        type(network).__name__ == "FeatureListNet"
        and _is_format(network, "NCHW")
        and set(levels) <= set(names)
        and names[-1] == levels[-1]
    )


def _is_format(network: nn.Module, order: str) -> bool:
    """Tell whether timm's levels have their axes in this order; where it does not say, the channels come first."""
    return bool(getattr(network, "output_fmt", "NCHW") == order)


def _cells(network: nn.Module, module: str, reduction: int) -> StrideOffset:
    """Tell where a level's cells lie, by the windows of the layers up to it, which timm registers in their order.

    Between ConvNeXt's stages a layer on the main path has the name that ResNet's shortcuts have: it counts where only
    that gives timm's `reduction`. Where no count does, cells are taken to part the image, as tokens do.
    """
    passed = list(_up_to(network, module))
    for shortcut in ("downsample", None):
        found = cells_after(each for name, each in passed if shortcut not in name.split("."))
        if found[0] == reduction:
            return found
    return reduction, (reduction - 1) / 2


def _up_to(network: nn.Module, module: str) -> Iterator[tuple[str, nn.Module]]:
    """Give the modules up to and with one; none of a network that does not hold it by this name."""
    own = dict(network.named_modules())
    last = next((name for name in (module, module.replace(".", "_", 1)) if name in own), None)
    if last is None:
        return
    reached = False
    for name, each in own.items():
        inside = name == last or name.startswith(f"{last}.")
        if reached and not inside:
            return
        reached = reached or inside
        yield name, each


def network_of(name: str) -> tuple[Any, Options]:
    """Build an untrained network that gives its levels, of tokens all blocks; and the options by which timm builds it.

    Raises DefectlocError where timm is not installed, or has no such network with levels.
    """
    package: Any = timm()
    rest = "; model=timm takes any network of timm.list_models() that has features_only"
    if not package.is_model(name):
        near = package.list_models(f"*{name}*")[:5]
        raise DefectlocError(
            f"model.name={name} is no network of timm{f' ({chr(44).join(near)} are)' if near else ''}{rest}."
        )
    # Where it can, it takes images of any size.
    options: Options = {"features_only": True, "dynamic_img_size": True}
    try:
        try:
            network = package.create_model(name, pretrained=False, **options)
        except TypeError:
            del options["dynamic_img_size"]
            network = package.create_model(name, pretrained=False, **options)
    except (RuntimeError, NotImplementedError, AttributeError, AssertionError) as error:
        raise DefectlocError(f"model.name={name} of timm has no levels ({error}){rest}.") from error
    info = network.feature_info
    if type(network).__name__ == "FeatureGetterNet" and len(set(info.reduction())) == 1:
        # The last norm is left out by default, and with it what makes tokens of outlying length comparable.
        features = functools.partial(network.__class__, norm=True)
        options |= {"out_indices": list(range(len(info))), "feature_cls": features}
        network = package.create_model(name, pretrained=False, **options)
    return network, options


def bank_levels(chain: "OrderedDict[str, nn.Module]") -> list[str]:
    """Name the levels for the memory bank: those of the strides that ResNet's have; of tokens of one size the last."""
    cells = cells_of(chain)
    chosen = [name for name, (stride, _) in cells.items() if stride in STRIDES]
    is_of_one_size = len({stride for stride, _ in cells.values()}) == 1
    return [list(cells)[-1]] if is_of_one_size or not chosen else chosen


def cells_of(chain: "OrderedDict[str, nn.Module]") -> dict[str, StrideOffset]:
    """Name the levels of the stages, with their cells."""
    found: dict[str, StrideOffset] = {}
    for name, stage in chain.items():
        if isinstance(stage, Features):
            found |= stage.cells
        elif isinstance(stage, Stage):
            found[name] = stage.cells
    return found


def ends_in_pooling(backbone: str, chain: "OrderedDict[str, nn.Module]") -> bool:
    """Tell whether the last level of a chain is what timm's classifier takes the mean of."""
    config = timm().get_pretrained_cfg(backbone.removeprefix(PREFIX))
    last = next(reversed(chain.values()))
    return isinstance(last, Stage) and config is not None and config.pool_size is not None


def constants(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give mean and standard deviation of red, green and blue in 0..255 by which timm normalises for a network."""
    config = timm().get_pretrained_cfg(backbone.removeprefix(PREFIX))
    return tuple(255 * value for value in config.mean), tuple(255 * value for value in config.std)
