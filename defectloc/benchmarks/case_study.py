"""A reference implementation of the case study's training loop, for comparison only; its results are not used.

Written after its description (`OlgaChernytska/Visual-Inspection`): Pillow decodes every image in every epoch in the
main process, no ImageNet preprocessing, plain memory layout, the first ten convolutions with `requires_grad=False`, a
max-pool between the last convolution and the global average, one dense layer, weights 1 : 3, Adam 1e-4, batches of 10.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models

N_FROZEN_LAYERS = 24
BATCH_SIZE, LEARNING_RATE, CLASS_WEIGHTS = 10, 1e-4, (1.0, 3.0)


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Images `(3, S, S)` in 0..1, decoded at each access."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], image_size: int) -> None:
        self._paths, self._labels, self._size = list(paths), list(labels), image_size

    def __len__(self) -> int:
        """Count the images."""
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Decode an image."""
        with Image.open(self._paths[index]) as file:
            image = file.convert("RGB").resize((self._size, self._size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, self._labels[index]


class Network(nn.Module):
    """VGG16's convolutions and pools, global average, one dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = models.vgg.make_layers(models.vgg.cfgs["D"])
        for layer in self.features[:N_FROZEN_LAYERS]:
            for parameter in layer.parameters():
                parameter.requires_grad = False
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the logits `(N, 2)`."""
        return self.classifier(self.features(images))


class Loop:
    """Its training loop, one step at a time."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], image_size: int, device: str) -> None:
        torch.manual_seed(42)
        self._device, self._network = device, Network().to(device)
        trained = [p for p in self._network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE)
        self._loss = nn.CrossEntropyLoss(weight=torch.tensor(CLASS_WEIGHTS, device=device))
        self._loader = DataLoader(Images(paths, labels, image_size), BATCH_SIZE, shuffle=True)
        self._batches = iter(self._loader)
        self.batch = min(BATCH_SIZE, len(paths))

    def step(self) -> None:
        """Load a batch and make one step of the optimizer."""
        images, labels = self._next()
        self._network.train()
        self._optimizer.zero_grad()
        logits = self._network(images)
        loss = self._loss(logits, labels)
        loss.backward()
        self._optimizer.step()
        loss.item()
        (logits.argmax(1) == labels).sum().item()

    def predict(self) -> None:
        """Load a batch of `batch` images and predict it."""
        images, _ = self._next()
        self._network.eval()
        with torch.no_grad():
            self._network(images).argmax(1).cpu()

    def _next(self) -> tuple[torch.Tensor, torch.Tensor]:
        batch = next(self._batches, None)
        if batch is None or len(batch[0]) < self.batch:
            self._batches = iter(self._loader)
            batch = next(self._batches)
        return batch[0].to(self._device), batch[1].to(self._device)
