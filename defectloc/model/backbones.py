"""ImageNet classifiers of torchvision and timm, each cut in trunk (frozen), tail (trained) and head."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torchvision import models

from defectloc.errors import DefectlocError
from defectloc.model import efficientnet_lite, timm_networks
from defectloc.model.grids import StrideOffset, cells_after

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
    if backbone in efficientnet_lite.BLOCKS:
        return efficientnet_lite.stages(backbone)
    if is_of_timm(backbone):
        return _not_in_place(timm_networks.stages(backbone))
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
        known = ", ".join(["vgg16", "resnet50", "densenet121", *efficientnet_lite.BLOCKS])
        raise DefectlocError(f"model={backbone} is not known; choose one of {known}.")
    return _not_in_place(chain)


def _not_in_place(chain: "OrderedDict[str, nn.Module]") -> "OrderedDict[str, nn.Module]":
    for stage in chain.values():
        for module in stage.modules():
            if hasattr(module, "inplace"):
                setattr(module, "inplace", False)  # noqa: B010
    return chain


def is_of_timm(backbone: str) -> bool:
    """Tell whether a backbone is one of `model=timm`."""
    return backbone.startswith(timm_networks.PREFIX)


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
    trained = [
        name
        for name, stage in chain.items()
        if any(True for _ in stage.parameters()) and not isinstance(stage, timm_networks.Features)
    ]
    return [*trained, HEAD]


def level_names(trunk: Iterable[tuple[str, nn.Module]]) -> list[str]:
    """Name the outputs of a trunk's stages that can be taken as levels, from the first to the last."""
    return [
        level
        for name, stage in trunk
        for level in (stage.cells if isinstance(stage, timm_networks.Features) else [name])
    ]


def outputs(trunk: Iterable[tuple[str, nn.Module]], values: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Give each level `(N, C, h, w)` by its name as it is computed, of normalised images `(N, 3, H, W)`."""
    for name, stage in trunk:
        if isinstance(stage, timm_networks.Features):
            yield from stage(values).items()
        else:
            values = stage(values)
            yield name, values


def cells(chain: "OrderedDict[str, nn.Module]", level: str | None = None) -> StrideOffset:
    """Give (stride, offset) of a level's cells in pixels of the input; None: of the last."""
    known = timm_networks.cells_of(chain)
    wanted = level or level_names(chain.items())[-1]
    if wanted in known:
        return known[wanted]
    names = list(chain)[: list(chain).index(wanted) + 1]
    return cells_after(main_path(OrderedDict((name, chain[name]) for name in names)))


def width(chain: "OrderedDict[str, nn.Module]") -> int:
    """Count the channels of the last map: those of the last normalisation or convolution."""
    last = next(reversed(chain.values()))
    if isinstance(last, timm_networks.Stage):
        return last.channels
    if isinstance(last, timm_networks.Features):
        return last.channels[-1]
    found = 0
    for module in main_path(chain):
        if isinstance(module, nn.Conv2d):
            found = module.out_channels
        elif isinstance(module, nn.BatchNorm2d):
            found = module.num_features
    return found


def ends_in_pooling(backbone: str, chain: "OrderedDict[str, nn.Module]") -> bool:
    """Tell whether a class network can be made of the chain: whether what it ends in is averaged for the classes."""
    return not is_of_timm(backbone) or timm_networks.ends_in_pooling(backbone, chain)


def trainable_from(backbone: str, chain: "OrderedDict[str, nn.Module]", wanted: str) -> str:
    """Name the first trained stage; of `auto`, for networks of timm, the last with a level, or the head.

    Raises DefectlocError where `wanted` is no stage with weights.
    """
    possible = cuts(chain)
    if wanted == "auto" and is_of_timm(backbone):
        return possible[-2] if len(possible) > 1 and ends_in_pooling(backbone, chain) else HEAD
    if wanted not in possible:
        raise DefectlocError(
            f"model.trainable_from={wanted} is no stage of {backbone}; choose one of {', '.join(possible)}."
        )
    return wanted


def published_key(backbone: str, key: str) -> str:
    """Translate a parameter's name in a chain of stages into the name that torchvision, or timm, has for it."""
    stage, _, rest = key.partition(".")
    if is_of_timm(backbone):
        return key
    if backbone in efficientnet_lite.BLOCKS:
        return efficientnet_lite.published_key(key)
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


def main_path(chain: "OrderedDict[str, nn.Module]") -> list[nn.Module]:
    """List the layers on the way from image to last map, without the shortcuts of residual blocks."""
    return [
        module
        for stage in chain.values()
        for name, module in stage.named_modules()
        if "downsample" not in name.split(".")
    ]


def constants(preprocessing: str, backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give mean and standard deviation of red, green and blue in 0..255; of `timm` those that timm has for it."""
    return timm_networks.constants(backbone) if preprocessing == "timm" else PREPROCESSING[preprocessing]


PREPROCESSING = {
    # RGB means of the Oxford networks, no division (torchvision, VGG16_Weights.IMAGENET1K_FEATURES).
    "oxford": ((123.0, 117.0, 104.0), (1.0, 1.0, 1.0)),
    "torchvision": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # MEAN_RGB and STDDEV_RGB of efficientnet/lite/efficientnet_lite_builder.py in the repository tensorflow/tpu.
    "lite": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
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
