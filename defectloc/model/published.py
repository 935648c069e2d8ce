"""Classifiers as torchvision publishes them, to be explained without a run."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from defectloc.errors import DefectlocError
from defectloc.model.backbones import Normalize
from defectloc.model.pretrained import download
from defectloc.model.weights import read


def published(name: str, weights: str) -> tuple[nn.Module, list[str], int]:
    """Give a network from RGB images `(N, 3, S, S)` in 0..255 to logits `(N, K)`, its class names, and S.

    `weights`: 'imagenet' (IMAGENET1K_V1 where there is one), a state dict's file, or 'none'. Raises DefectlocError for
    an unknown network and for weights that cannot be reached or do not fit.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise DefectlocError(f"model.name={name} is no classifier of torchvision; there are {', '.join(known)}.")
    choices: Any = models.get_model_weights(name)
    choice = getattr(choices, "IMAGENET1K_V1", choices.DEFAULT)
    classes, size = list(choice.meta["categories"]), int(choice.transforms().crop_size[0])
    state = None
    if weights == "imagenet":
        state = download(choice, "give a state dict with model.weights=FILE")
    elif weights != "none":
        content = read(Path(weights).expanduser())
        inner = content.get("state_dict")
        state = {str(k).removeprefix("module."): v for k, v in (inner if isinstance(inner, dict) else content).items()}
        # The last matrix is that of the classes.
        matrices = [value for value in state.values() if isinstance(value, torch.Tensor) and value.ndim == 2]
        if matrices and len(matrices[-1]) != len(classes):
            classes = [str(number) for number in range(len(matrices[-1]))]
    # What torchvision sets by itself wherever it loads weights.
    inception = name in ("googlenet", "inception_v3")
    options = {"transform_input": True, "init_weights": False} if inception else {}
    network = models.get_model(name, weights=None, num_classes=len(classes), **options)
    if state is not None:
        _load(network, state, f"model.weights={weights}", name)
    for module in network.modules():
        # Methods that read activations would find overwritten numbers.
        if hasattr(module, "inplace"):
            module.inplace = False
    usual = choice.transforms()
    mean, sd = (tuple(255 * value for value in values) for values in (usual.mean, usual.std))
    return nn.Sequential(Normalize(mean, sd), network).eval(), classes, size


def _load(network: nn.Module, state: dict[str, Any], origin: str, name: str) -> None:
    own = network.state_dict()
    wanted = [key for key in own if not key.endswith("num_batches_tracked")]
    missing = [key for key in wanted if key not in state] + sorted(set(state) - set(own))
    if missing:
        raise DefectlocError(f"{origin} does not fit model.name={name}: '{missing[0]}' stands in only one of them.")
    wrong = [key for key in wanted if own[key].shape != state[key].shape]
    if wrong:
        raise DefectlocError(f"{origin} does not fit model.name={name}: '{wrong[0]}' has another shape.")
    network.load_state_dict(state, strict=False)
