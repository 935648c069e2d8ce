"""The layers of a backbone as nodes of an ONNX graph."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.densenet import _DenseBlock
from torchvision.models.resnet import Bottleneck

from defectloc.deployment.graph import Graph
from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier
from defectloc.model.efficientnet_lite import ReLU6, Residual
from defectloc.model.levels import Level
from defectloc.model.same_padding import SamePaddedConv2d


def trunk_levels(graph: Graph, classifier: Classifier, image: str, levels: Sequence[Level]) -> dict[Level, str]:
    """Give levels `(N, C, h, w)` of the trunk for images `(N, 3, H, W)` in 0..255."""
    classifier.require(levels)
    values = _normalized(graph, classifier, image)
    found: dict[Level, str] = {}
    for name, stage in classifier.trunk.named_children():
        values = layers(graph, stage, values)
        for level in levels:
            if level.stage == name:
                found[level] = values if level.pool == 1 else _pool(graph, values, level.pool)
        if len(found) == len(levels):
            break
    return found


def class_map(graph: Graph, classifier: Classifier, features: str) -> str:
    """Give the class activation maps `(N, h, w)` for the trunk's output, or for images where all is trained."""
    if not len(classifier.trunk):
        features = _normalized(graph, classifier, features)
    channels = layers(graph, classifier.head, layers(graph, classifier.tail, features))
    good, defective = (graph.add("Gather", channels, graph.constant(number, "int64"), axis=1) for number in range(2))
    return graph.add("Sub", defective, good)


def _normalized(graph: Graph, classifier: Classifier, image: str) -> str:
    mean, std = (_numbers(classifier.normalize.get_buffer(name)) for name in ("mean", "std"))
    return graph.add("Div", graph.add("Sub", image, graph.constant(mean)), graph.constant(std))


def _pool(graph: Graph, values: str, side: int) -> str:
    return graph.add("AveragePool", values, kernel_shape=[side, side], strides=[side, side])


def layers(graph: Graph, module: nn.Module, values: str) -> str:
    """Give what a layer, or a chain of layers, makes of values `(N, C, h, w)`.

    Raises DefectlocError for a kind of layer that no backbone here has.
    """
    match module:
        case Residual():
            values = graph.add("Add", values, _chain(graph, module.children(), values))
        case nn.Sequential():
            values = _chain(graph, module.children(), values)
        case nn.Conv2d():
            values = _convolution(graph, module, values)
        case nn.BatchNorm2d():
            names = ("weight", "bias", "running_mean", "running_var")
            parameters = [graph.constant(_numbers(getattr(module, name))) for name in names]
            values = graph.add("BatchNormalization", values, *parameters, epsilon=module.eps)
        case ReLU6():
            values = graph.add("Clip", values, graph.constant(0.0), graph.constant(6.0))
        case nn.ReLU():
            values = graph.add("Relu", values)
        case nn.MaxPool2d() if not module.ceil_mode:
            values = graph.add("MaxPool", values, **_window(module))
        case nn.AvgPool2d() if not module.ceil_mode and _pair(module.padding) == [0, 0]:
            values = graph.add("AveragePool", values, **_window(module))
        case Bottleneck():
            parts = (module.conv1, module.bn1, module.relu, module.conv2, module.bn2, module.relu)
            inner = _chain(graph, (*parts, module.conv3, module.bn3), values)
            beside = values if module.downsample is None else layers(graph, module.downsample, values)
            values = graph.add("Relu", graph.add("Add", inner, beside))
        case _DenseBlock():
            for layer in module.children():
                parts = (layer.norm1, layer.relu1, layer.conv1, layer.norm2, layer.relu2, layer.conv2)
                values = graph.add("Concat", values, _chain(graph, parts, values), axis=1)
        case _:
            raise DefectlocError(f"a layer of the kind {type(module).__name__} cannot be exported.")
    return values


def _chain(graph: Graph, modules: Iterable[Any], values: str) -> str:
    for module in modules:
        values = layers(graph, module, values)
    return values


def _convolution(graph: Graph, module: nn.Conv2d, values: str) -> str:
    parameters = [module.weight] if module.bias is None else [module.weight, module.bias]
    padding: dict[str, Any] = {"pads": _pair(module.padding) * 2}
    if isinstance(module, SamePaddedConv2d):
        padding = {"auto_pad": "SAME_UPPER"}
    constants = [graph.constant(_numbers(each)) for each in parameters]
    return graph.add(
        "Conv",
        values,
        *constants,
        kernel_shape=list(module.kernel_size),
        strides=list(module.stride),
        dilations=list(module.dilation),
        group=module.groups,
        **padding,
    )


def _window(module: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, Any]:
    padding = _pair(module.padding)
    return {"kernel_shape": _pair(module.kernel_size), "strides": _pair(module.stride), "pads": padding * 2}


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _numbers(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().float().numpy()
