"""Explain images by one method: maps, a contact sheet, and a picture of each; or compare all methods."""

import difflib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps

from defectloc.attribution.explainer import Explainer
from defectloc.attribution.methods import METHODS, check
from defectloc.attribution.network import ExplainedModel
from defectloc.attribution.prediction import predict, targets_of
from defectloc.attribution.selection import UNKNOWN, images_of, select
from defectloc.config import ExplainSettings
from defectloc.data.images import read_image
from defectloc.data.masks import read_mask
from defectloc.errors import DefectlocError
from defectloc.figures.explanations import ExplainedImage, draw_explanations
from defectloc.files import atomic
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import stack
from defectloc.model.published import published
from defectloc.model.weights import weights_digest
from defectloc.progress import images_bar
from defectloc.runs.directory import rows_of
from defectloc.runs.explaining.class_network import (
    Verdict,
    model_of_run,
    open_run,
    prepared_device,
    verdict,
)
from defectloc.runs.explaining.comparison import compare
from defectloc.runs.predictor import Predictor
from defectloc.runs.products import packed


@dataclass(frozen=True)
class _Given:
    """A model, the images at hand below `base`, and where the results go."""

    model: ExplainedModel
    # judges an image `(H, W, 3)`
    judge: Callable[[np.ndarray], Verdict]
    base: Path
    images: pd.DataFrame
    output: Path


def run(settings: ExplainSettings) -> Path:
    """Explain images by one method, or compare methods; returns the folder of the results.

    Raises DefectlocError for what is not there, all that can be told without the network first.
    """
    _check(settings)
    if settings.compare:
        return compare(settings)
    check(settings.method, layer=settings.layer)
    given = _given_run(settings) if settings.run is not None else _given_torchvision(settings)
    images = _explain(given, settings)
    parts = [settings.method, settings.select, settings.target, settings.layer]
    folder = given.output / "-".join(str(part).replace("/", "_") for part in parts if part is not None)
    # Pictures of images that were chosen by another seed must not be left among these.
    for pictures in ("single", "channels"):
        shutil.rmtree(folder / pictures, ignore_errors=True)
    _write(folder / "explanations.npz", images, given.model, settings)
    sheet = draw_explanations(images, settings, folder)
    print(f"maps: {folder / 'explanations.npz'}")
    print(f"figure: {sheet}")
    return folder


def _check(settings: ExplainSettings) -> None:
    if (settings.run is None) == (settings.model.name is None):
        raise DefectlocError("explain needs run=FOLDER, or model=torchvision model.name=NAME; give one of them.")
    if settings.compare and (settings.run is None or settings.images is not None):
        raise DefectlocError("compare=true scores methods on the test images of a run; give run=FOLDER and no images.")
    if settings.run is None and settings.images is None:
        raise DefectlocError("model=torchvision needs images=FILE or FOLDER; only a run has images of its own.")
    if settings.colormap not in colormaps:
        near = difflib.get_close_matches(settings.colormap, list(colormaps), 1, 0.4) or ["inferno"]
        raise DefectlocError(f"colormap={settings.colormap} is none of Matplotlib's; take for example {near[0]}.")


def _given_run(settings: ExplainSettings) -> _Given:
    finished = open_run(settings)
    if METHODS[settings.method].run is None:
        # Says what is missing, before anything is loaded.
        finished.product(settings.method)
    if settings.images is None:
        base, images = finished.data_root(settings.root), rows_of(finished.images(), "test")
    else:
        base, images = images_of(settings.images)
    images = select(images, settings.select, settings.n, settings.seed)
    device = prepared_device(settings)
    model = model_of_run(finished, settings, device)
    check(settings.method, model)
    output = finished.folder / "explain" if settings.output is None else Path(settings.output).expanduser()
    return _Given(model, partial(verdict, Predictor(finished, device)), base, images, output)


def _given_torchvision(settings: ExplainSettings) -> _Given:
    assert settings.images is not None
    assert settings.model.name is not None
    base, images = images_of(settings.images)
    images = select(images, settings.select, settings.n, settings.seed)
    device = prepared_device(settings)
    network, classes, size = published(settings.model.name, settings.model.weights)
    key = weights_digest(network.state_dict())
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    normalize: Any = next(iter(network.children()))
    model = ExplainedModel(network, classes, (size, size), normalize.mean, key)
    check(settings.method, model)
    output = Path(settings.outputs).expanduser() / "explain" / settings.model.name
    if settings.output is not None:
        output = Path(settings.output).expanduser()
    return _Given(model, lambda image: Verdict(predict(model, image), "", False), base, images, output)


def _explain(given: _Given, settings: ExplainSettings) -> list[ExplainedImage]:
    """Explain the images, each for the class or classes that `target` names; what is stored is not repeated."""
    folder = given.output / "maps"
    explainer = Explainer(settings.method, given.model, settings.attribution, settings.seed, settings.layer, folder)
    # Of fixed settings; nothing is fitted to images.
    localizer = Localizer.fixed(settings.localization)
    found = []
    with images_bar(settings.method, len(given.images)) as advance:
        for row in given.images.itertuples():
            image = read_image(given.base / row.path)
            judged = given.judge(image)
            for target in targets_of(settings.target, given.model.classes, judged.prediction):
                found.append(_explained(given, explainer, localizer, row, image, judged, target))
            advance(1)
    return found


def _explained(
    given: _Given,
    explainer: Explainer,
    localizer: Localizer,
    row: Any,
    image: np.ndarray,
    judged: Verdict,
    target: int,
) -> ExplainedImage:
    explanation = explainer.explain(image, target)
    values = explanation.at((image.shape[0], image.shape[1]))
    name, probability = given.model.classes[target], float(judged.prediction.probabilities[target])
    is_labelled = bool(judged.sentence) and row.label != UNKNOWN
    mask_path = getattr(row, "mask_path", "")
    mask = None
    if mask_path and (given.base / mask_path).is_file():
        mask = read_mask(given.base / mask_path, image.shape[:2])
    return ExplainedImage(
        path=row.path,
        image=image,
        target=target,
        target_name=name,
        probability=probability,
        explanation=explanation,
        map=values,
        boxes=localizer.boxes(values)[["x0", "y0", "x1", "y1"]].to_numpy(),
        mask=mask,
        label=int(row.label),
        verdict=judged.sentence or f"{name}, p = {probability:.3f}",
        truth=f"true: {row.defect_type}" if is_labelled else "",
        is_right=judged.prediction.predicted == row.label if is_labelled and not judged.is_review else None,
    )


def _write(path: Path, images: list[ExplainedImage], model: ExplainedModel, settings: ExplainSettings) -> None:
    """Write the maps with what they belong to, without pickle: `(N, h, w)`, or as `packed` has those of tiles."""
    grid, own = images[0].explanation.grid, model.extra_maps.get(settings.method)
    seen: Any = model.image_size
    if own is not None and own.tiling is not None:
        seen = [image.explanation.input_size for image in images]
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            paths=np.array([image.path for image in images], dtype=np.str_),
            **packed(stack(image.explanation.map for image in images)),
            grid=np.array([grid.stride, grid.offset]),
            image_size=np.array(seen),
            targets=np.array([image.target_name for image in images], dtype=np.str_),
            probabilities=np.array([image.probability for image in images]),
            labels=np.array([image.label for image in images]),
            method=np.array(settings.method),
        )
