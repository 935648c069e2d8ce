"""All methods by name, behind one interface: images in, maps out."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import nn

from defectloc.attribution import class_activation as activation
from defectloc.attribution import perturbation, pixels
from defectloc.attribution.channels import contributions
from defectloc.attribution.expected_gradients import expected_gradients
from defectloc.attribution.fullgrad import fullgrad
from defectloc.attribution.layers import find_layer, grid_of
from defectloc.attribution.network import ClassScore, ExplainedModel, undisturbed
from defectloc.attribution.partition import shap_partition
from defectloc.attribution.superpixels import lime
from defectloc.config import AttributionConfig
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid

Parts = dict[str, np.ndarray]
PIXELS = Grid(1, 0)


@dataclass(frozen=True)
class Inputs:
    """What a method works on: one image `(1, 3, H, W)`, the score of a class, its settings, and a layer if any."""

    score: ClassScore
    image: torch.Tensor
    config: AttributionConfig
    seed: int
    layer: nn.Module | None

    @property
    def at(self) -> nn.Module:
        """The layer, for methods that cannot do without."""
        assert self.layer is not None
        return self.layer

    def grid(self, cells: tuple[int, int]) -> Grid:
        """Tell where the cells of a map of (height, width) cells lie: at the pixels, or at the layer."""
        if self.layer is None or cells == tuple(self.image.shape[2:]):
            return PIXELS
        return grid_of(self.score.model, self.layer, cells)


@dataclass(frozen=True)
class Method:
    """How a method is run, and what is known of it before; without `run` its map is one of the `extra_maps`.

    Those are made of the photograph, by `Explainer`.
    """

    family: str
    run: Callable[[Inputs], torch.Tensor | tuple[torch.Tensor, Parts]] | None = None
    # of the extra `explain`
    packages: tuple[str, ...] = ()
    # 'always'; 'given': only where the user names one; 'never'
    layer: str = "never"
    # the keys of `attribution` that change its maps
    uses: tuple[str, ...] = ()


def _by_gradient(name: str, given: Inputs) -> torch.Tensor:
    return activation.by_gradient(name, given.score, given.at, given.image)


def _guided_gradcam(given: Inputs) -> torch.Tensor:
    return pixels.guided_gradcam(given.score, given.at, given.image, given.grid)


ACTIVATION, GRADIENT, PERTURBATION, INSIDE, OURS = "class activation", "gradient", "perturbation", "inside", "ours"
_of_layer = partial(Method, ACTIVATION, layer="always")
_of_pixels = partial(Method, GRADIENT, packages=("captum",))

METHODS: dict[str, Method] = {
    "cam": _of_layer(lambda c: activation.cam(c.score, c.at, c.image)),
    **{name: _of_layer(partial(_by_gradient, name)) for name in activation.WEIGHTINGS},
    "scorecam": _of_layer(lambda c: activation.scorecam(c.score, c.at, c.image, c.config), uses=("score_channels",)),
    "ablationcam": _of_layer(lambda c: activation.ablationcam(c.score, c.at, c.image, c.config)),
    "fullgrad": Method(ACTIVATION, lambda c: fullgrad(c.score, c.image)),
    "saliency": _of_pixels(lambda c: pixels.saliency(c.score, c.image)),
    "guided-backprop": _of_pixels(lambda c: pixels.guided_backprop(c.score, c.image)),
    "guided-gradcam": _of_pixels(_guided_gradcam, layer="always"),
    "integrated-gradients": _of_pixels(
        lambda c: pixels.integrated_gradients(c.score, c.image, c.config), uses=("steps",)
    ),
    "smoothgrad": _of_pixels(
        lambda c: pixels.smoothgrad(c.score, c.image, c.config, c.seed), uses=("smooth_samples", "noise")
    ),
    "expected-gradients": Method(
        GRADIENT,
        lambda c: expected_gradients(c.score, c.layer, c.image, c.config, c.seed),
        layer="given",
        uses=("expected_samples", "background", "noise"),
    ),
    "occlusion": Method(
        PERTURBATION,
        lambda c: perturbation.occlusion(c.score, c.image, c.config),
        ("captum",),
        uses=("window",),
    ),
    "lime": Method(
        PERTURBATION,
        lambda c: lime(c.score, c.image, c.config, c.seed),
        ("captum", "skimage"),
        uses=("lime_samples", "lime_hide", "superpixels", "n_superpixels"),
    ),
    "shap-partition": Method(
        PERTURBATION,
        lambda c: shap_partition(c.score, c.image, c.config, c.seed),
        ("shap",),
        uses=("shap_evaluations", "shap_masker"),
    ),
    "rise": Method(PERTURBATION, lambda c: perturbation.rise(c.score, c.image, c.config, c.seed), uses=("rise_masks",)),
    "channels": Method(INSIDE, lambda c: contributions(c.score, c.at, c.image), layer="always"),
    "memory": Method(OURS),
    "fusion": Method(OURS),
}


@dataclass
class Attribution:
    """Maps `(N, h, w)` float32, where their cells lie in the network's input, and what else a method gives."""

    maps: np.ndarray
    grid: Grid
    # images that went through the network, per image explained
    evaluations: float
    # of each image
    parts: list[Parts] = field(default_factory=list)


def check(name: str, model: ExplainedModel | None = None, layer: str | None = None) -> None:
    """Raise DefectlocError for an unknown method (with a list), one that is not installed, or a map that is not there.

    Also for a layer where the method takes none.
    """
    if name not in METHODS:
        raise DefectlocError(f"method={name} is not known; choose one of {', '.join(METHODS)}.")
    missing = [package for package in METHODS[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise DefectlocError(f"method={name} needs the package {missing[0]}; type: pip install 'defectloc[explain]'.")
    if layer is not None and METHODS[name].layer == "never":
        raise DefectlocError(f"method={name} works without a layer; leave out layer={layer}.")
    if METHODS[name].run is None and model is not None and name not in model.extra_maps:
        raise DefectlocError(
            f"method={name} needs a run that has such maps; 'defectloc train' with localization.map={name} makes them."
        )


def attribute(
    name: str,
    model: ExplainedModel,
    images: torch.Tensor,
    targets: list[int],
    config: AttributionConfig,
    seeds: list[int],
    layer: str | None = None,
) -> Attribution:
    """Explain images `(N, 3, H, W)` in 0..255, each for the class that `targets` names, by one method.

    The method is one of the network, not one of its `extra_maps`. All that is random for an image is a function of that
    image's own of the `seeds`. `layer` is a name or an index, None the last before pooling. The network is as before
    afterwards. Raises DefectlocError for what `check` refuses, and for a layer that does not fit.
    """
    check(name, model)
    method = METHODS[name]
    wanted = method.layer == "always" or (method.layer == "given" and layer is not None)
    found = find_layer(model, layer)[1] if wanted else None
    maps, parts, grid, evaluations = [], [], PIXELS, 0
    for image, target, seed in zip(images.to(model.device).split(1), targets, seeds, strict=True):
        given = Inputs(ClassScore(model, target), image, config, seed, found)
        with undisturbed(model.network):
            values, grid, more = _map_of(name, given)
        maps.append(values)
        parts.append(more)
        evaluations += given.score.evaluations
    return Attribution(np.concatenate(maps), grid, evaluations / len(images), parts)


def _map_of(name: str, given: Inputs) -> tuple[np.ndarray, Grid, Parts]:
    run = METHODS[name].run
    assert run is not None, name
    result = run(given)
    values, parts = result if isinstance(result, tuple) else (result, {})
    return values.detach().float().cpu().numpy(), given.grid((values.shape[1], values.shape[2])), parts
