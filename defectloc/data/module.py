"""The Lightning data module over datasets of images or stored features."""

from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from defectloc.data.datasets import EpochSampler, FeatureDataset, ImageDataset
from defectloc.data.resident import ResidentLoader, fits


def loader(dataset: FeatureDataset | ImageDataset, batch_size: int, seed: int | None, workers: int) -> DataLoader:
    """Batch a dataset; shuffled by `(seed, epoch)` where there is a seed. Workers only decode images."""
    return DataLoader(
        dataset,
        batch_size,
        sampler=EpochSampler(len(dataset), seed),
        num_workers=workers if isinstance(dataset, ImageDataset) else 0,
        pin_memory=torch.cuda.is_available(),
    )


class FoldData(LightningDataModule):
    """Training and validation split of a fold."""

    def __init__(
        self,
        train: FeatureDataset | ImageDataset,
        validation: FeatureDataset | ImageDataset | None,
        batch_size: int,
        seed: int,
        workers: int,
        device: str = "cpu",
        resident: bool | None = None,
    ) -> None:
        """`resident`: whether stored features lie on the device whole; None: where they fit on a GPU."""
        super().__init__()
        self._train, self._validation = train, validation
        self._batch_size, self._seed, self._workers = batch_size, seed, workers
        self._device, self._resident = device, resident

    def train_dataloader(self) -> Any:
        """Shuffle the training split."""
        return self._loader(self._train, self._seed)

    def val_dataloader(self) -> Any:
        """Give the validation split in its order; empty where none is set aside."""
        if self._validation is None or len(self._validation) == 0:
            return []
        return self._loader(self._validation, None)

    def ordered_dataloader(self) -> DataLoader:
        """Give the training split of the first epoch in its order."""
        return loader(self._train, self._batch_size, None, self._workers)

    def _loader(self, dataset: FeatureDataset | ImageDataset, seed: int | None) -> Any:
        resident = self._resident
        if isinstance(dataset, FeatureDataset) and (resident or (resident is None and fits(dataset, self._device))):
            return ResidentLoader(dataset, self._batch_size, seed, self._device)
        return loader(dataset, self._batch_size, seed, self._workers)
