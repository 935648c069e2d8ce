"""All that a fit of one fold starts from: images and their split, the network with its weights, stored features."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from defectloc import runs
from defectloc.config import TrainSettings
from defectloc.data import catalog as catalogs
from defectloc.data import sources, splits
from defectloc.data.images import read_image
from defectloc.errors import DefectlocError

if TYPE_CHECKING:
    import torch

    from defectloc.data.module import FeatureDataset, ImageDataset
    from defectloc.model.classifier import Classifier


@dataclass
class Fold:
    """All that a fit of one fold starts from."""

    settings: TrainSettings
    root: Path
    catalog: pd.DataFrame
    classifier: "Classifier"
    weights_digest: str
    device: str
    precision: str

    @property
    def cached(self) -> bool:
        """Tell whether the trunk's output is stored; with a random augmentation there is nothing to store."""
        return self.settings.features.cache and not self.settings.augmentation.transforms

    @property
    def views(self) -> list[str]:
        """List the views that stand for the training images; validation and test images are always plain."""
        return self.settings.augmentation.views or ["plain"]

    @property
    def memory_levels(self) -> list[str]:
        """List the trunk's levels that the memory of good parts needs; none where nothing asks for it."""
        from defectloc.model.memory import LEVELS

        if not self.wants("memory"):
            return []
        return self.settings.memory.levels or list(LEVELS[self.classifier.backbone])

    def wants(self, kind: str) -> bool:
        """Tell whether the map or the decision asks for 'memory' or 'fusion', which is made of the memory."""
        asked = {self.settings.localization.map, self.settings.decision.score}
        return "fusion" in asked or kind in asked

    def rows(self, *parts: str) -> pd.DataFrame:
        """Give the images of some parts of the split."""
        return self.catalog[self.catalog["split"].isin(parts)]


def prepare(settings: TrainSettings) -> Fold:
    """Read the data, split it and load the weights; the cheap checks come first."""
    root, catalog = sources.load(settings.data, settings.subset)
    catalog = catalog.assign(split=splits.split(catalog, settings.data, settings.n_folds, settings.fold))
    import torch

    from defectloc.model import device as devices
    from defectloc.model import weights

    device = devices.choose(settings.device)
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    classifier, digest, origin = weights.build(settings.model, settings.seed)
    print(f"{settings.subset} fold {settings.fold}: {settings.model.name}, {origin}", file=sys.stderr)
    precision = settings.training.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    fold = Fold(settings, root, catalog, classifier, digest, device, precision)
    classifier.require(fold.memory_levels)
    scaled = fold.wants("fusion") or settings.localization.normalization == "good"
    if scaled and fold.rows(splits.VALIDATION).query("label == 0").empty:
        raise DefectlocError(
            "the validation part has no good image to bring maps to scale by; add good images, or use localization=cam."
        )
    return fold


def fingerprint(fold: Fold) -> str:
    """Hash all that affects the fit, and nothing else."""
    s, data = fold.settings, fold.settings.data
    return runs.fingerprint(
        {
            "catalog": catalogs.digest(fold.catalog),
            "split": [data.split, s.n_folds, data.split_seed, data.validation, data.group, data.n_defective],
            "image_size": data.image_size,
            "preprocessing": fold.classifier.preprocessing,
            "model": [s.model.name, s.model.trainable_from, fold.weights_digest],
            "training": asdict(s.training) | {"precision": fold.precision},
            "augmentation": {"views": s.augmentation.views} if s.augmentation.views else s.augmentation.transforms,
            "seed": s.seed,
            "features": [fold.cached, s.features.dtype if fold.cached else None],
        }
    )


def dataset(fold: Fold, *parts: str, augmented: bool = False) -> "FeatureDataset | ImageDataset":
    """Give the images of some parts, in the order of the parts, as stored features or to be decoded."""
    from defectloc.data.augmentation import Augmentation
    from defectloc.data.module import FeatureDataset, ImageDataset
    from defectloc.data.views import Views

    settings = fold.settings
    images = pd.concat([fold.rows(part) for part in parts])
    views = Views(fold.views if augmented else ["plain"], settings.seed)
    if fold.cached:
        digests, level = list(images["digest"]), fold.classifier.level
        first, *others = [_store(fold, name).read(digests, level) for name in views.names]
        return FeatureDataset(first, list(images["label"]), others, views.draw if others else None)
    augmentation: Augmentation | Views | None = None
    if augmented and settings.augmentation.transforms:
        augmentation = Augmentation(settings.augmentation, settings.seed)
    elif views.names != ["plain"]:
        augmentation = views
    paths = [fold.root / path for path in images["path"]]
    return ImageDataset(paths, list(images["label"]), settings.data.image_size, augmentation)


def tell_source(fold: Fold) -> None:
    """Say in one line where the tail's inputs come from."""
    augmentation, names = fold.settings.augmentation, fold.views
    if fold.cached:
        source = "stored" if names == ["plain"] else f"stored in {len(names)} views of each image ({', '.join(names)})"
    else:
        reason = f"augmentation={augmentation.name} is random" if augmentation.transforms else "features.cache=false"
        source = f"streamed, since {reason}"
    print(f"features: {source}", file=sys.stderr)


def _store(fold: Fold, view: str = "plain") -> Any:
    """Open the feature store of this setting; in it are all images of the fold, or as another view its training part.

    Raises DefectlocError for an image that cannot be read.
    """
    from defectloc.data.resize import resize
    from defectloc.data.views import flip
    from defectloc.features.store import FeatureStore
    from defectloc.model.levels import derivable
    from defectloc.model.predict import trunk_of

    settings, classifier = fold.settings, fold.classifier
    size, features = settings.data.image_size, settings.features
    key = {
        "image_size": size,
        "preprocessing": classifier.preprocessing,
        "backbone": classifier.backbone,
        "cut": classifier.trainable_from,
        "weights": fold.weights_digest,
        "dtype": features.dtype,
        "precision": fold.precision,
        "view": view,
    }
    root = Path(settings.outputs).expanduser() / ".features"
    store = FeatureStore(root, key, features.limit_gb, derivable(classifier))

    def decoded(path: str) -> "torch.Tensor":
        return resize(flip(read_image(fold.root / path), view), size)

    trunk = trunk_of(classifier, fold.device, fold.precision)
    images, levels = fold.rows(splits.TRAIN), [classifier.level]
    if view == "plain":
        # All levels at once, so that no image goes through the trunk twice.
        images, levels = fold.catalog, list(dict.fromkeys([*levels, *fold.memory_levels]))
    store.ensure(images, levels, trunk, decoded, features.batch_size, features.workers)
    return store


def level_batches(fold: Fold, levels: list[str]) -> Callable[[pd.DataFrame], Iterator[list[np.ndarray]]]:
    """Give a function from images to batches of some of the trunk's levels, stored or, without a store, computed."""
    from defectloc.data.resize import resize
    from defectloc.model.predict import trunk_of

    settings = fold.settings
    store = _store(fold) if settings.features.cache else None
    trunk = trunk_of(fold.classifier, fold.device, fold.precision)

    def batches(images: pd.DataFrame) -> Iterator[list[np.ndarray]]:
        stored = [store.read(list(images["digest"]), level) for level in levels] if store else []
        for start in range(0, len(images), settings.features.batch_size):
            some = images.iloc[start : start + settings.features.batch_size]
            if stored:
                yield [np.stack([level[start + i] for i in range(len(some))]) for level in stored]
            else:
                resized = [resize(read_image(fold.root / path), settings.data.image_size) for path in some["path"]]
                found = trunk(resized, levels)
                yield [found[level] for level in levels]

    return batches
