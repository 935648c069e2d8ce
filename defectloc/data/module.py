"""Datasets of images or stored features, and the Lightning data module over them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from defectloc.data.augmentation import Augmentation
from defectloc.data.images import read_image
from defectloc.data.resize import resize

Item = tuple[torch.Tensor, int]


class FeatureDataset(Dataset[Item]):
    """Stored features `(C, h, w)` with labels."""

    def __init__(self, features: Sequence[np.ndarray], labels: Sequence[int]) -> None:
        self.features, self.labels = features, list(labels)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Give the features of (epoch, index); they are the same in every epoch."""
        # A copy: a tensor over a read-only memory map is not allowed.
        return torch.from_numpy(np.array(self.features[key[1]])), self.labels[key[1]]


class ImageDataset(Dataset[Item]):
    """Images `(3, S, S)` in 0..255 with labels, decoded when asked for, augmented by (seed, epoch, index)."""

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int], image_size: int, augmentation: Augmentation | None = None
    ) -> None:
        self.paths, self.labels, self.image_size = list(paths), list(labels), image_size
        self.augmentation = augmentation

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Give the image of (epoch, index)."""
        epoch, index = key
        image = read_image(self.paths[index])
        if self.augmentation is not None:
            image = self.augmentation(image, epoch, index)
        return resize(image, self.image_size), self.labels[index]


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys (epoch, index); with a seed in an order drawn from (seed, epoch), else in the order of the dataset.

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
        """Draw the order of this epoch."""
        order = np.arange(self.n)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        return iter([(self.epoch, int(index)) for index in order])


def loader(dataset: FeatureDataset | ImageDataset, batch_size: int, seed: int | None, workers: int) -> DataLoader:
    """Batch a dataset; shuffled by (seed, epoch) where there is a seed. Workers only decode images."""
    return DataLoader(
        dataset,
        batch_size,
        sampler=EpochSampler(len(dataset), seed),
        num_workers=workers if isinstance(dataset, ImageDataset) else 0,
        pin_memory=torch.cuda.is_available(),
    )


class FoldData(LightningDataModule):
    """Training and validation part of a fold."""

    def __init__(
        self,
        train: FeatureDataset | ImageDataset,
        validation: FeatureDataset | ImageDataset | None,
        batch_size: int,
        seed: int,
        workers: int,
    ) -> None:
        super().__init__()
        self._train, self._validation = train, validation
        self._batch_size, self._seed, self._workers = batch_size, seed, workers

    def train_dataloader(self) -> DataLoader:
        """Shuffle the training part."""
        return loader(self._train, self._batch_size, self._seed, self._workers)

    def val_dataloader(self) -> DataLoader | list:
        """Give the validation part in its order; empty where none is set aside."""
        if self._validation is None or len(self._validation) == 0:
            return []
        return loader(self._validation, self._batch_size, None, self._workers)
