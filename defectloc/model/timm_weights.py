"""Weights of timm's networks: by timm's own means, or a file, by the names of our chain of stages."""

import sys
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn

from defectloc.errors import DefectlocError
from defectloc.model.timm_networks import PREFIX, cut, network_of
from defectloc.model.timm_package import pretrained, timm

State = dict[str, torch.Tensor]


def published(backbone: str) -> tuple[State, str]:
    """Find the weights that timm has for a network, and say in words where; raises DefectlocError where it cannot."""
    name = backbone.removeprefix(PREFIX)
    _, options = network_of(name)
    network = pretrained(name, f"give one of {name}'s other names in timm", **options)
    config = timm().get_pretrained_cfg(name)
    tag = f".{config.tag}" if config.tag else ""
    return _state(cut(network)), f"timm's {config.architecture}{tag}"


def adapted(backbone: str, state: State, origin: str) -> State:
    """Take the weights of a state dict in timm's or the authors' names, without a classifier.

    timm renames what its authors published, and resizes their embedding of places. Raises DefectlocError naming the
    first misfit.
    """
    name = backbone.removeprefix(PREFIX)
    chain = cut(network_of(name)[0])
    own = _state(chain)
    if set(own) <= set(state):
        # A checkpoint of ours, with a head of two classes.
        return {key: state[key] for key in (*own, "head.weight", "head.bias") if key in state}
    whole = timm().create_model(name, pretrained=False, num_classes=0)
    rename = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
    if rename is not None:
        try:
            state = rename(dict(state), whole)
        except (KeyError, RuntimeError, AttributeError, IndexError) as error:
            raise DefectlocError(f"{origin} does not fit model.name={name}: {type(error).__name__} {error}.") from error
    known = whole.state_dict()
    # The embedding of classes is left out of the network that gives its levels.
    foreign = sorted(key for key in state if key not in known and not key.startswith(_classifiers(name, whole)))
    missing = [key for key in known if key not in state and not key.endswith("num_batches_tracked")]
    if missing or foreign:
        what = f"lacks '{missing[0]}'" if missing else f"has '{foreign[0]}', which that network does not"
        raise DefectlocError(f"{origin} does not fit model.name={name}: it {what}.")
    wrong = [key for key in known if key in state and known[key].shape != state[key].shape]
    if wrong:
        raise DefectlocError(
            f"{origin} does not fit model.name={name}: '{wrong[0]}' has the shape {tuple(state[wrong[0]].shape)} "
            f"instead of {tuple(known[wrong[0]].shape)}."
        )
    whole.load_state_dict(state, strict=False)
    return _of_whole(own, whole.state_dict())


def _classifiers(name: str, whole: nn.Module) -> tuple[str, ...]:
    """Name what a classifier's weights begin with; `whole` is the network without one."""
    config = timm().get_pretrained_cfg(name)
    given = config.classifier if config is not None and config.classifier else ()
    empty = {path for path, module in whole.named_modules() if isinstance(module, nn.Identity)}
    found = []
    for classifier in [given] if isinstance(given, str) else given:
        # LeViT's `head.linear` has a norm before it in `head`, which goes with it.
        parts = classifier.split(".")
        above = (".".join(parts[:n]) for n in range(1, len(parts)))
        found.append(next((path for path in above if path in empty), classifier))
    return tuple(f"{each}." for each in found)


def _state(chain: "OrderedDict[str, nn.Module]") -> State:
    return {f"{name}.{key}": value for name, stage in chain.items() for key, value in stage.state_dict().items()}


def _of_whole(own: State, whole: State) -> State:
    """Take the weights of a chain out of those of the whole network, whose names it makes flatter."""
    flat = whole | {key.replace(".", "_", 1): value for key, value in whole.items()}
    return {key: flat[_inner(key, flat)] for key in own}


def _inner(key: str, flat: Mapping[str, torch.Tensor]) -> str:
    """Leave out the names of what holds a stage: `layer2.0.` before its own, or `network.network.model.`."""
    for prefix in ("network.network.model.", "network.network."):
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    if key in flat:
        return key
    stage, _, rest = key.partition(".0.")
    return f"{stage}.{rest}"
