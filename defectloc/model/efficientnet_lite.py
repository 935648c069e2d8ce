"""EfficientNet-Lite 0 to 2 as timm builds them, of plain layers, and the names of their weights elsewhere.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019); the lite networks
have no squeeze-and-excitation and ReLU6 for an activation, so that they run on processors and small devices alike.
"""

import copy
import itertools
import re
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from defectloc.model.same_padding import SamePaddedConv2d
from defectloc.model.timm_package import timm

# Blocks of each stage.
BLOCKS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
# A block without an expansion has its layers one place further on.
_LAYERS = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
_NORMS = {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


class ReLU6(nn.ReLU):
    """A ReLU that ends at 6; unlike torch's class it is one, so that guided backpropagation finds it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Clip values of any shape to 0..6."""
        return F.relu6(input, self.inplace)


class Residual(nn.Sequential):
    """Layers whose input is added to their output."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Take and give maps `(N, C, h, w)`."""
        return values + super().forward(values)


def timm_name(backbone: str) -> str:
    """Give timm's name: that of the networks padded as TensorFlow does, in which the published weights were trained."""
    return f"tf_{backbone}"


def stages(backbone: str) -> "OrderedDict[str, nn.Module]":
    """Give a lite network as named stages, untrained: stem, blocks0 to blocks6, conv_head.

    timm's blocks are rebuilt of torch's layers, which export and attribution know. Raises DefectlocError where timm is
    not installed.
    """
    network = timm().create_model(timm_name(backbone), pretrained=False, num_classes=0)
    chain: OrderedDict[str, nn.Module] = OrderedDict(stem=_chain(network, "conv_stem", "bn1"))
    for number, blocks in enumerate(network.blocks):
        chain[f"blocks{number}"] = nn.Sequential(*(_block(block) for block in blocks))
    chain["conv_head"] = _chain(network, "conv_head", "bn2")
    return chain


def _chain(network: nn.Module, *names: str) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, _plain(network.get_submodule(name))) for name in names))


def _block(block: nn.Module) -> nn.Module:
    """Take the layers of a block in the order of their use, in which they are registered."""
    layers = OrderedDict(
        (name, _plain(layer)) for name, layer in block.named_children() if not isinstance(layer, nn.Identity)
    )
    return Residual(layers) if block.has_skip else nn.Sequential(layers)


def _plain(layer: nn.Module) -> nn.Module:
    new: nn.Module
    if isinstance(layer, nn.Conv2d):
        if tuple(layer.padding) != (0, 0) or layer.kernel_size == (1, 1):
            return layer
        new = SamePaddedConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            groups=layer.groups,
            bias=layer.bias is not None,
        )
        new.load_state_dict(layer.state_dict())
        return new
    if isinstance(layer, nn.BatchNorm2d):
        new = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum)
        new.load_state_dict(layer.state_dict())
        act = layer.get_submodule("act")
        if isinstance(act, nn.Identity):
            return new
        assert isinstance(act, nn.ReLU6)
        return nn.Sequential(OrderedDict(norm=new, act=ReLU6()))
    raise AssertionError(f"a lite network has no layer of the kind {type(layer).__name__}")


def for_inference(trunk: nn.Module) -> nn.Module:
    """Copy stages, with norms folded into the convolutions before them and activations in place: a third faster.

    The numbers differ by rounding; the copy cannot be trained or explained.
    """
    copied = copy.deepcopy(trunk)
    for holder in list(copied.modules()):
        for (name, layer), (after, following) in itertools.pairwise(list(holder.named_children())):
            norm = getattr(following, "norm", following)
            if not (isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            holder.register_module(name, fuse_conv_bn_eval(layer, norm))
            if norm is following:
                holder.register_module(after, nn.Identity())
            else:
                following.register_module("norm", nn.Identity())
    for module in copied.modules():
        if isinstance(module, ReLU6):
            module.inplace = True
    return copied


def published_key(key: str) -> str:
    """Translate a parameter's name in a chain of stages into timm's name for it."""
    stage, _, rest = key.partition(".")
    rest = rest.replace(".norm.", ".")
    return f"blocks.{stage.removeprefix('blocks')}.{rest}" if stage.startswith("blocks") else rest


def renamed(backbone: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Translate the names of the package efficientnet-lite-pytorch into timm's; others stay as they are."""
    places = [(stage, number) for stage, blocks in enumerate(BLOCKS[backbone]) for number in range(blocks)]
    return {_renamed(key, places): value for key, value in state.items()}


def _renamed(key: str, places: list[tuple[int, int]]) -> str:
    if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        number, layer, value = int(found[1]), found[2], found[3]
        if number < len(places):
            names = _LAYERS | _NORMS if number else _FIRST
            stage, block = places[number]
            return f"blocks.{stage}.{block}.{names.get(layer, layer)}.{value}"
        return key
    layer, _, value = key.partition(".")
    return f"{_ENDS[layer]}.{value}" if layer in _ENDS else key
