"""ImageNet classifiers of torchvision, each cut in trunk (frozen), tail (trained) and head."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torchvision import models

from defectloc.errors import DefectlocError
from defectloc.model.grids import Grid

# VGG16's convolutions by the names of its paper, in torchvision's order of layers.
_VGG16 = {
    "conv1": 2,
    "conv2": 2,
    "conv3": 3,
    "conv4": 3,
    "conv5": 3,
}
HEAD = "head"


def stages(backbone: str) -> "OrderedDict[str, nn.Module]":
    """Give a backbone as a chain of named stages that ends before global average pooling, untrained.

    VGG16 keeps no pool after conv5_3, so that the mean of the map is the decision. Activations are not in place:
    methods that read activations would otherwise find overwritten numbers. Raises DefectlocError for another name.
    """
    chain: OrderedDict[str, nn.Module]
    if backbone == "vgg16":
        return _vgg16_stages()
    if backbone == "resnet50":
        net = models.resnet50(weights=None)
        chain = OrderedDict(
            stem=nn.Sequential(OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool))
        )
        chain.update((name, getattr(net, name)) for name in ("layer1", "layer2", "layer3", "layer4"))
    elif backbone == "densenet121":
        net = models.densenet121(weights=None)
        parts = dict(net.features.named_children())
        stem = ("conv0", "norm0", "relu0", "pool0")
        chain = OrderedDict(stem=nn.Sequential(OrderedDict((name, parts[name]) for name in stem)))
        chain.update((name, part) for name, part in parts.items() if name not in stem)
        # torchvision applies this activation as a function, outside of `features`.
        chain["relu5"] = nn.ReLU()
    else:
        raise DefectlocError(f"model={backbone} is not known; choose vgg16, resnet50 or densenet121.")
    for stage in chain.values():
        for module in stage.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
    return chain


def _vgg16_stages() -> "OrderedDict[str, nn.Module]":
    # Only the convolutions: the classifier that `models.vgg16` adds takes seconds and 500 MB to initialise.
    layers = iter(models.vgg.make_layers(models.vgg.cfgs["D"]))
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    for block, n_convolutions in _VGG16.items():
        for number in range(1, n_convolutions + 1):
            convolution, _ = next(layers), next(layers)
            assert isinstance(convolution, nn.Conv2d)
            # As torchvision initialises a VGG without weights.
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
            chain[f"{block}_{number}"] = nn.Sequential(OrderedDict(conv=convolution, relu=nn.ReLU()))
        chain[block.replace("conv", "pool")] = next(layers)
    del chain["pool5"]
    return chain


def cuts(chain: "OrderedDict[str, nn.Module]") -> list[str]:
    """List the stages with weights, from each of which on a network can be trained, and 'head'."""
    return [name for name, stage in chain.items() if any(True for _ in stage.parameters())] + [HEAD]


def torchvision_key(backbone: str, key: str) -> str:
    """Translate a parameter's name in a chain of stages into torchvision's name for it."""
    stage, _, rest = key.partition(".")
    if backbone == "vgg16":
        return f"features.{_vgg16_index(stage)}.{rest.removeprefix('conv.')}"
    if backbone == "resnet50":
        return rest if stage == "stem" else key
    return f"features.{rest if stage == 'stem' else key}"


def _vgg16_index(stage: str) -> int:
    """Count torchvision's layers before a convolution: two per convolution, one per pool."""
    block, number = stage.split("_")
    index = 0
    for name, n_convolutions in _VGG16.items():
        if name == block:
            return index + 2 * (int(number) - 1)
        index += 2 * n_convolutions + 1
    raise KeyError(stage)


def grid(modules: Iterable[nn.Module]) -> Grid:
    """Give (stride, offset): cell i of the last map has its centre at offset + stride * i pixels of the input.

    A layer of kernel k, stride s and padding p puts its cell i at (k - 1) / 2 - p + s * i of its own input.
    """
    stride, offset = 1.0, 0.0
    for module in modules:
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            continue
        kernel, step, padding = (_first(v) for v in (module.kernel_size, module.stride, module.padding))
        offset += ((kernel - 1) / 2 - padding) * stride
        stride *= step
    return stride, offset


def _first(value: Any) -> int:
    return value if isinstance(value, int) else value[0]


def main_path(chain: "OrderedDict[str, nn.Module]") -> list[nn.Module]:
    """List the layers on the way from image to last map, without the shortcuts of residual blocks."""
    return [
        module
        for stage in chain.values()
        for name, module in stage.named_modules()
        if "downsample" not in name.split(".")
    ]


PREPROCESSING = {
    # RGB means of the Oxford networks, no division (torchvision, VGG16_Weights.IMAGENET1K_FEATURES).
    "oxford": ((123.0, 117.0, 104.0), (1.0, 1.0, 1.0)),
    "torchvision": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


class Normalize(nn.Module):
    """Normalise RGB values of 0..255 as a backbone was trained; the constants are no part of a checkpoint."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Of red, green and blue."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise `(N, 3, H, W)` images in 0..255."""
        return (images - self.get_buffer("mean")) / self.get_buffer("std")
