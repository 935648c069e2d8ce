"""The class network of a run as it is explained: with the run's maps, its good training images and its verdicts."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from defectloc.attribution.methods import METHODS
from defectloc.attribution.network import ExplainedModel, ExtraMap
from defectloc.attribution.prediction import ANOMALY, GOOD, ClassPrediction
from defectloc.config import ExplainSettings
from defectloc.data.images import read_image
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.files import digest_of
from defectloc.localization.maps import Grid
from defectloc.model import device as devices
from defectloc.model import weights
from defectloc.model.levels import Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.tiled_levels import levels_of
from defectloc.model.trunk import Trunk
from defectloc.runs.directory import CHECKPOINT, Run, rows_of
from defectloc.runs.fusion import Fusion, load_parts
from defectloc.runs.predictor import Predictor
from defectloc.runs.products import Product, tiling_of


def open_run(settings: ExplainSettings) -> Run:
    """Open the run that the settings name; raises DefectlocError where it is none.

    Also where it lacks the class network that the methods explain, other than the run's own maps.
    """
    assert settings.run is not None
    run = Run.open(settings.run)
    if not run.has_class_network and (settings.compare or METHODS[settings.method].run is not None):
        what = "compare=true compares methods on it" if settings.compare else f"method={settings.method} explains that"
        raise DefectlocError(
            f"run={run.folder} has no class network, and {what}; its anomaly maps are shown by method=memory and "
            "method=fusion."
        )
    return run


def prepared_device(settings: ExplainSettings) -> str:
    """Choose the device and set it up; raises DefectlocError where it is not there."""
    device = devices.choose(settings.device)
    devices.prepare(device, settings.threads)
    return device


def model_of_run(run: Run, settings: ExplainSettings, device: str) -> ExplainedModel:
    """Load the class network of a run, with what its methods may start from.

    Raises DefectlocError where the weights, or later the background images, cannot be read.
    """
    classifier = weights.restore(run.folder / CHECKPOINT)
    key = weights.weights_digest(weights.state_of(classifier))
    classifier.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    baseline = classifier.normalize.get_buffer("mean")
    model = ExplainedModel(classifier, [GOOD, ANOMALY], run.image_size, baseline, key)
    model.background = functools.cache(lambda: _background(run, settings))
    for kind in ("memory", "fusion"):
        try:
            product = run.product(kind)
        except DefectlocError:
            # There is none, or it is not clear which one is meant: whoever asks for the method is told.
            continue
        # Its name tells the settings, the tiling included; its files tell the images.
        made = digest_of([product.name, product.note["files"]])
        model.extra_maps[kind] = ExtraMap(made, _ProductMap(run, product, device), tiling_of(product))
    return model


def _background(run: Run, settings: ExplainSettings) -> torch.Tensor:
    """Read a random choice of good training images `(B, 3, H, W)`."""
    root = run.data_root(settings.root)
    good = rows_of(run.catalog(), "train").query("label == 0")["path"].to_numpy()
    chosen = np.random.default_rng(settings.seed).permutation(len(good))[: settings.attribution.background]
    return torch.stack([resize(read_image(root / good[i]), run.image_size) for i in sorted(chosen)])


class _ProductMap:
    """The map of a product of a run, for images that the run does not know; its files are read when first needed."""

    def __init__(self, run: Run, product: Product, device: str) -> None:
        self._product, self._device, self._precision = product, device, run.record["precision"]
        self._image_size, self._tiling = run.image_size, tiling_of(product)
        self._batch_size = int(run.record["settings"]["features"]["batch_size"])

    @functools.cached_property
    def _parts(self) -> tuple[MemoryBank, list[Level], Fusion | None]:
        return load_parts(self._product, self._device)

    @functools.cached_property
    def _trunk_of(self) -> Callable[[nn.Module], Trunk]:
        """Make the trunk of a network once; two, since a comparison asks for a randomised copy in turn."""
        return functools.lru_cache(maxsize=2)(lambda network: Trunk(network, self._device, self._precision))

    def __call__(self, network: nn.Module, image: np.ndarray) -> tuple[np.ndarray, Grid]:
        """Give the map `(h, w)` of a photograph `(H, W, 3)` by a network like the run's."""
        bank, levels, fusion = self._parts
        trunk = self._trunk_of(network)
        if self._tiling is None:
            found = trunk([resize(image, self._image_size)], levels)
        else:
            found = levels_of(image, self._tiling, trunk, levels, self._batch_size)
        values = [found[level] for level in levels]
        distances = bank.distances(values)
        return (distances if fusion is None else fusion.fuse(values, distances))[0], Grid(*bank.grid)


@dataclass(frozen=True)
class Verdict:
    """A prediction with a sentence for its caption; a part to be reviewed is neither good nor defective."""

    prediction: ClassPrediction
    sentence: str
    is_review: bool


def verdict(predictor: Predictor, image: np.ndarray) -> Verdict:
    """Judge an image `(H, W, 3)` as `defectloc predict` does, by the run's last decision."""
    found = predictor.predict(image)
    # By the score alone, also of an image that has no probability since it is unlike the training photographs.
    probability = float(predictor.decision.probability(found.score))
    prediction = ClassPrediction(np.array([1 - probability, probability]), found.predicted)
    if found.unlike_training:
        return Verdict(prediction, "unlike the training photographs", False)
    return Verdict(prediction, predictor.decision.describe(probability, found.verdict), found.verdict == "review")
