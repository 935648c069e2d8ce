"""Weights: where they come from, which preprocessing they need, and how they are written and read."""

import hashlib
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from defectloc.config import ModelConfig
from defectloc.errors import DefectlocError
from defectloc.files import atomic
from defectloc.model import efficientnet_lite, timm_weights
from defectloc.model.backbones import is_of_timm, published_key
from defectloc.model.classifier import Classifier
from defectloc.model.pretrained import State, imagenet
from defectloc.model.timm_networks import PREFIX

CHECKPOINT_FORMAT = 1
# `weights_digest` of VGG16's first ten convolutions as Oxford trained them; tells weights of unknown origin apart.
OXFORD_DIGEST = "a6948832aa4e2a41aa1acae7c7424acac2f7584773d021e3c51bb116d1dd288e"
_OXFORD_KEYS = tuple(f"features.{i}.{p}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21) for p in ("weight", "bias"))
_HEADS = ("head", "classifier", "fc")
# torchvision renames DenseNet's published keys in the same way when it loads them.
_DENSE_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")


def build(model: ModelConfig, seed: int) -> tuple[Classifier, str, str]:
    """Make the classifier with its weights; gives it, the weights' digest and a word on where they came from.

    The head is random by `seed` unless the weights have one of two classes. Raises DefectlocError where the weights
    cannot be reached or do not fit.
    """
    backbone = backbone_of(model)
    state, record, origin = _source(backbone, model.weights, seed)
    preprocessing = str(model.preprocessing)
    if preprocessing == "auto":
        preprocessing = record or _preprocessing(backbone, state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(backbone, model.trainable_from, preprocessing)
    load(classifier, state, origin)
    return classifier.eval(), weights_digest(state), f"{origin}, {preprocessing} preprocessing"


def backbone_of(model: ModelConfig) -> str:
    """Name a backbone in one word, by which a checkpoint is built again."""
    return f"{PREFIX}{model.name}" if model.library == "timm" else str(model.name)


def _preprocessing(backbone: str, state: State) -> str:
    if is_of_timm(backbone):
        return "timm"
    if backbone in efficientnet_lite.BLOCKS:
        return "lite"
    return "oxford" if _is_oxford(state) else "torchvision"


def load(classifier: Classifier, state: State, origin: str) -> None:
    """Copy weights with their published names into a classifier; raises DefectlocError naming the first misfit."""
    own = classifier.state_dict()
    names = {key: _published_name(classifier.backbone, key) for key in own}
    missing = [name for name in names.values() if name not in state and not name.startswith("head.")]
    # Counts of batches are no weights, and old checkpoints lack them.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    foreign = sorted(set(state) - set(names.values()))
    if missing or foreign:
        what = f"lacks '{missing[0]}'" if missing else f"has '{foreign[0]}', which that network does not"
        raise DefectlocError(f"{origin} does not fit model={classifier.backbone}: it {what}.")
    for key, name in names.items():
        if name not in state:
            continue
        if own[key].shape != state[name].shape:
            raise DefectlocError(
                f"{origin} does not fit model={classifier.backbone}: '{name}' has the shape "
                f"{tuple(state[name].shape)} instead of {tuple(own[key].shape)}."
            )
        own[key].copy_(state[name])


def state_of(classifier: Classifier) -> State:
    """Give a classifier's weights under their published names, the head as `head.weight` and `head.bias`."""
    own = classifier.state_dict()
    return {_published_name(classifier.backbone, key): value.detach().cpu().clone() for key, value in own.items()}


def save(path: Path, classifier: Classifier, extra: dict[str, Any]) -> None:
    """Write a checkpoint that `torch.load(..., weights_only=True)` reads: tensors and plain values only."""
    content = {
        "format": CHECKPOINT_FORMAT,
        "backbone": classifier.backbone,
        "trainable_from": classifier.trainable_from,
        "preprocessing": classifier.preprocessing,
        "state_dict": state_of(classifier),
        **extra,
    }
    # Through memory, since torch does not tell that the disk is full.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def restore(path: Path) -> Classifier:
    """Read a checkpoint of `save`; raises DefectlocError where it is not one."""
    content = read(path)
    if content.get("format") != CHECKPOINT_FORMAT or "backbone" not in content:
        raise DefectlocError(f"{path} is not a checkpoint of this version of defectloc.")
    classifier = Classifier(content["backbone"], content["trainable_from"], content["preprocessing"])
    load(classifier, content["state_dict"], str(path))
    return classifier.eval()


def read(path: Path) -> dict[str, Any]:
    """Load a file of tensors without running anything in it; raises DefectlocError where that cannot be done."""
    load_file = _safetensors(path) if path.suffix == ".safetensors" else _pytorch
    try:
        content = load_file(path)
    except FileNotFoundError as error:
        raise DefectlocError(f"the weights file {path} does not exist.") from error
    # torch refuses what it cannot parse, or deems unsafe, by many kinds of exception.
    except Exception as error:
        raise DefectlocError(
            f"{path} is not a file of plain tensors that can be read safely (by torch.load, weights_only=True, or as "
            "safetensors)."
        ) from error
    if not isinstance(content, dict):
        raise DefectlocError(f"{path} holds no state dict but a {type(content).__name__}.")
    return content


def _pytorch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Callable[[Path], State]:
    # It comes with timm, whose weights are published in this format.
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise DefectlocError(
            f"to read {path} the package 'safetensors' is needed: pip install 'defectloc[timm]'."
        ) from error
    return load_file


def weights_digest(state: State) -> str:
    """Identify weights by name, shape and bytes, wherever they came from."""
    total = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith("num_batches_tracked"):
            value = state[name].detach().cpu().float().contiguous()
            total.update(f"{name}{tuple(value.shape)}".encode())
            total.update(value.numpy().tobytes())
    return total.hexdigest()


def _published_name(backbone: str, key: str) -> str:
    part, _, rest = key.partition(".")
    return key if part == "head" else published_key(backbone, rest)


def _is_oxford(state: State) -> bool:
    return (
        all(key in state for key in _OXFORD_KEYS)
        and weights_digest({k: state[k] for k in _OXFORD_KEYS}) == OXFORD_DIGEST
    )


def _source(backbone: str, weights: str, seed: int) -> tuple[State, str | None, str]:
    if weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = Classifier(backbone, "head", "torchvision")
        state = {name: value for name, value in state_of(fresh).items() if not name.startswith("head.")}
        return state, None, f"random weights of seed {seed}"
    if weights == "imagenet":
        if is_of_timm(backbone):
            state, origin = timm_weights.published(backbone)
            return state, None, origin
        state, origin = imagenet(backbone)
        return _published(backbone, state, origin), None, origin
    content = read(Path(weights))
    record = content.get("preprocessing") if isinstance(content.get("preprocessing"), str) else None
    return _published(backbone, content, weights), record, weights


def _published(backbone: str, content: dict[str, Any], origin: str) -> State:
    """Rename a state dict of another program to the published names and a 1x1 head."""
    state = content["state_dict"] if isinstance(content.get("state_dict"), dict) else content
    if not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise DefectlocError(f"{origin} holds no state dict: a name with a tensor for each weight.")
    if is_of_timm(backbone):
        return timm_weights.adapted(backbone, {str(k).removeprefix("module."): v for k, v in state.items()}, origin)
    state = {_DENSE_KEY.sub(r"\1\2", str(key).removeprefix("module.")): value for key, value in state.items()}
    if backbone in efficientnet_lite.BLOCKS:
        state = efficientnet_lite.renamed(backbone, state)
    head = {k: v for k, v in state.items() if k.partition(".")[0] in _HEADS}
    state = {k: v for k, v in state.items() if k not in head}
    weight = next((v for k, v in head.items() if k in ("head.weight", "classifier.weight", "fc.weight")), None)
    if weight is not None and len(weight) == 2:
        bias = next((v for k, v in head.items() if k.endswith(".bias")), torch.zeros(2))
        state |= {"head.weight": weight.reshape(2, -1, 1, 1), "head.bias": bias}
    elif head:
        print(f"note: the classifier of {origin} is not of two classes and is not used", file=sys.stderr)
    return state
