"""Stored features that lie on the device whole, so that a fit does not wait for the loader."""

import math
from collections.abc import Iterator

import torch

from defectloc.data.datasets import EpochSampler, FeatureDataset

# The share of the free memory that features may take; the rest is for the network and its gradients.
SHARE = 0.6


def fits(dataset: FeatureDataset, device: str) -> bool:
    """Tell whether the features fit on a CUDA device; on a CPU they are in its memory already, as far as they fit."""
    if device != "cuda" or len(dataset) == 0:
        return False
    free, _ = torch.cuda.mem_get_info()
    return dataset.n_bytes() <= SHARE * free


class ResidentLoader:
    """Batches taken by index from one tensor on the device; the same ones in the same order as a DataLoader gives."""

    def __init__(self, dataset: FeatureDataset, batch_size: int, seed: int | None, device: str) -> None:
        self._dataset, self._batch_size = dataset, batch_size
        # Under these names Lightning looks for what wants to know the epoch.
        self.sampler, self.batch_sampler = EpochSampler(len(dataset), seed), None
        first = dataset.features_of(0, 0)
        shape = (len(dataset.views), len(dataset), *first.shape)
        self._features = torch.empty(shape, dtype=first.dtype, device=device)
        for view in range(len(dataset.views)):
            for index in range(len(dataset)):
                self._features[view, index] = dataset.features_of(view, index)
        self._labels = torch.tensor(dataset.labels, device=device)

    def __len__(self) -> int:
        """Count the batches."""
        return math.ceil(len(self._dataset) / self._batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give one epoch."""
        keys = list(self.sampler)
        device = self._labels.device
        views = torch.tensor([self._dataset.view_of(*key) for key in keys], device=device)
        images = torch.tensor([index for _, index in keys], device=device)
        for view, image in zip(views.split(self._batch_size), images.split(self._batch_size), strict=True):
            yield self._features[view, image], self._labels[image]
