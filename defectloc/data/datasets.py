"""Datasets of images or stored features, and the order in which an epoch goes through them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from defectloc.data.augmentation import Augmentation
from defectloc.data.images import read_image
from defectloc.data.resize import resize
from defectloc.data.views import Views

Item = tuple[torch.Tensor, int]


class FeatureDataset(Dataset[Item]):
    """Stored features `(C, h, w)` with labels; of several views of each image an epoch draws one.

    `others` are the same images in other views than `features`; `draw(epoch, index)` chooses the position of a view.
    """

    def __init__(
        self,
        features: Sequence[np.ndarray],
        labels: Sequence[int],
        others: Sequence[Sequence[np.ndarray]] = (),
        draw: Callable[[int, int], int] | None = None,
    ) -> None:
        self.views, self.labels, self._draw = [features, *others], list(labels), draw

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Give the features of `(epoch, index)`; without several views they are the same in every epoch."""
        return self.features_of(self.view_of(*key), key[1]), self.labels[key[1]]

    def view_of(self, epoch: int, index: int) -> int:
        """Give the position of the view that an epoch takes of an image."""
        return 0 if self._draw is None else self._draw(epoch, index)

    def features_of(self, view: int, index: int) -> torch.Tensor:
        """Give the features of one image in one view."""
        # A copy: a tensor over a read-only memory map is not allowed.
        return torch.from_numpy(np.array(self.views[view][index]))

    def n_bytes(self) -> int:
        """Count the bytes of all features in all views."""
        return sum(len(view) for view in self.views) * self.features_of(0, 0).nbytes


class ImageDataset(Dataset[Item]):
    """Images `(3, H, W)` in 0..255 with labels, decoded when asked for, augmented by `(seed, epoch, index)`."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        image_size: int | Sequence[int],
        augmentation: Augmentation | Views | None = None,
    ) -> None:
        self.paths, self.labels, self.image_size = list(paths), list(labels), image_size
        self.augmentation = augmentation

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Give the image of `(epoch, index)`."""
        epoch, index = key
        image = read_image(self.paths[index])
        if self.augmentation is not None:
            image = self.augmentation(image, epoch, index)
        return resize(image, self.image_size), self.labels[index]


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys `(epoch, index)`, with a seed shuffled by it and the epoch, else in the order of the dataset.

    Lightning calls `set_epoch`, also after a resume; the key carries the epoch to datasets in worker processes.
    """

    def __init__(self, n: int, seed: int | None) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the images."""
        return self.n

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Give the keys of this epoch."""
        order = np.arange(self.n)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        return iter([(self.epoch, int(index)) for index in order])
