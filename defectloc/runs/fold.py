"""All that a fit of one fold starts from: images and their split, the network with its weights, stored features."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from defectloc.config import TrainSettings
from defectloc.data import splits
from defectloc.data.augmentation import Augmentation
from defectloc.data.datasets import FeatureDataset, ImageDataset
from defectloc.data.digests import Digests
from defectloc.data.images import read_image
from defectloc.data.resize import input_size, resize
from defectloc.data.tiles import Tiling
from defectloc.data.views import Views, flip
from defectloc.features.store import FeatureStore
from defectloc.model.classifier import Classifier
from defectloc.model.levels import Level, derivable
from defectloc.model.tiled_levels import sizes_of
from defectloc.model.trunk import Trunk

Features = dict[Level, np.ndarray]
# Raised when the code changes what is stored of an image: decoding, resizing, the trunk.
FEATURES_VERSION = 3


@dataclass
class Fold:
    """All that a fit of one fold starts from; a feature store is opened once."""

    settings: TrainSettings
    root: Path
    catalog: pd.DataFrame
    # Also of the images that `data.limit` and `data.within_fold` leave out of the catalog.
    all_paths: list[str]
    digests: Digests
    classifier: Classifier
    weights_digest: str
    device: str
    precision: str
    # How the memory bank and the patch head see a photograph; None: whole, as the class network does.
    tiling: Tiling | None = None
    stores: dict[str, FeatureStore] = field(default_factory=dict, repr=False)

    @property
    def cached(self) -> bool:
        """Tell whether the trunk's output is stored; with a random augmentation there is nothing to store."""
        return self.settings.features.cache and not self.settings.augmentation.transforms

    @property
    def views(self) -> list[str]:
        """List the views that stand for the training images; validation and test images are always plain."""
        return [str(view) for view in self.settings.augmentation.views] or ["plain"]

    @property
    def bank_levels(self) -> list[Level]:
        """List the trunk's levels that the memory bank takes; none where no map or score needs a bank."""
        if not self.needs_bank:
            return []
        named = [Level.parse(text) for text in self.settings.memory.levels]
        return named or self.classifier.bank_levels

    @property
    def needs_bank(self) -> bool:
        """Tell whether the map or the decision is made of the memory bank."""
        return not self._asked.isdisjoint(("memory", "fusion"))

    @property
    def has_class_network(self) -> bool:
        """Tell whether a class network is fitted."""
        return self.without_class_network is None

    @property
    def without_class_network(self) -> str | None:
        """Say why no class network is fitted; None where one is."""
        if self.settings.training.epochs == 0:
            return "training.epochs=0"
        if not self.rows(splits.TRAIN)["label"].any():
            return "no defective training image"
        if not self.classifier.has_class_map:
            return f"{self.settings.model.name} does not end in global pooling over a chain of stages"
        return None

    @property
    def asks_for_class(self) -> bool:
        """Tell whether the map or the decision is that of the class network."""
        return not self._asked.isdisjoint(("cam", "class"))

    @property
    def needs_fusion(self) -> bool:
        """Tell whether the map or the decision is made of memory bank and labels together."""
        return "fusion" in self._asked

    @property
    def _asked(self) -> set[str]:
        return {str(self.settings.localization.map), str(self.settings.decision.score)}

    def rows(self, *parts: str) -> pd.DataFrame:
        """Give the images of some splits, in the order of the catalog."""
        return self.catalog[self.catalog["split"].isin(parts)]

    @property
    def held_out(self) -> pd.DataFrame:
        """Give the validation images, then the test images."""
        return pd.concat([self.rows(splits.VALIDATION), self.rows(splits.TEST)])

    def store(self, view: str = "plain") -> FeatureStore:
        """Open the feature store of this setting, filled: all images, or as another view the training images.

        Raises DefectlocError for an image that cannot be read.
        """
        if view not in self.stores:
            self.stores[view] = self._filled_store(view)
        return self.stores[view]

    def _filled_store(self, view: str) -> FeatureStore:
        classifier, features = self.classifier, self.settings.features
        store = self.empty_store({"view": view})
        trunk = Trunk(classifier, self.device, self.precision)

        def decoded(path: str) -> torch.Tensor:
            return resize(flip(read_image(self.root / path), view), self.image_size)

        images, levels = self.catalog if view == "plain" else self.rows(splits.TRAIN), [classifier.level]
        if self.tiling is None and (view == "plain" or self.needs_fusion):
            # All levels at once, so that no image goes through the trunk twice.
            levels = list(dict.fromkeys([classifier.level, *self.bank_levels]))
        names = [str(level) for level in levels]
        store.ensure(images, names, trunk.by_name, decoded, features.batch_size, features.workers)
        return store

    def empty_store(self, more: dict[str, Any]) -> FeatureStore:
        """Open the feature store of this setting, and of what more the stored numbers depend on."""
        settings, classifier, features = self.settings, self.classifier, self.settings.features
        key = {
            "version": FEATURES_VERSION,
            "image_size": self.image_size,
            "preprocessing": classifier.preprocessing,
            "backbone": classifier.backbone,
            "cut": classifier.trainable_from,
            "weights": self.weights_digest,
            "dtype": str(features.dtype),
            "precision": self.precision,
            **more,
        }
        root = Path(settings.outputs).expanduser() / ".features"
        return FeatureStore(root, key, features.limit_gb, derivable(classifier))

    @cached_property
    def image_size(self) -> int | list[int]:
        """Give the input of all that sees a photograph whole: the side of a square, or [height, width]."""
        return input_size(self.settings.data.image_size, self.sizes.values())

    @cached_property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Give (height, width) of all photographs in native pixels, by path."""
        return sizes_of(self.root, self.catalog)

    def reader(
        self, images: pd.DataFrame, levels: Sequence[Level], view: str = "plain"
    ) -> Callable[[Iterable[int]], Features]:
        """Return what gives levels `(N, C, h, w)` of some of the images, by number: stored, or else computed.

        As another view than plain only those of training images are stored.
        """
        if self.settings.features.cache:
            store = self.store(view)
            stored = {level: store.read(list(images["digest"]), str(level)) for level in levels}
            return lambda numbers: {level: np.stack([values[i] for i in numbers]) for level, values in stored.items()}
        trunk = Trunk(self.classifier, self.device, self.precision)
        paths, side = [self.root / path for path in images["path"]], self.image_size
        return lambda numbers: trunk([resize(flip(read_image(paths[i]), view), side) for i in numbers], levels)

    def features(self, images: pd.DataFrame, levels: Sequence[Level]) -> Iterator[Features]:
        """Give some of the trunk's levels `(N, C, h, w)` in batches of images."""
        size, read = self.settings.features.batch_size, self.reader(images, levels)
        for start in range(0, len(images), size):
            yield read(range(start, min(start + size, len(images))))

    def dataset(self, images: pd.DataFrame, augmented: bool = False) -> FeatureDataset | ImageDataset:
        """Give images in the table's order, as stored features or to be decoded."""
        settings = self.settings
        views = Views(self.views if augmented else ["plain"], settings.seed)
        if self.cached:
            digests, level = list(images["digest"]), str(self.classifier.level)
            first, *others = [self.store(name).read(digests, level) for name in views.names]
            return FeatureDataset(first, list(images["label"]), others, views.draw if others else None)
        augmentation: Augmentation | Views | None = None
        if augmented and settings.augmentation.transforms:
            augmentation = Augmentation(settings.augmentation, settings.seed)
        elif views.names != ["plain"]:
            augmentation = views
        paths = [self.root / path for path in images["path"]]
        return ImageDataset(paths, list(images["label"]), self.image_size, augmentation)
