"""Small networks to be explained."""

import numpy as np
import pytest
import torch
from torch import nn

from defectloc.attribution.network import ClassScore, ExplainedModel
from defectloc.config import AttributionConfig, ModelConfig
from defectloc.data.images import sides_of
from defectloc.model import weights
from tests.narrow import make_narrow

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4"}
SIZE = 64
FEW = AttributionConfig(
    batch_size=64,
    steps=4,
    smooth_samples=3,
    expected_samples=6,
    window=0.3,
    lime_samples=12,
    n_superpixels=9,
    shap_evaluations=12,
    rise_masks=12,
    score_channels=5,
)


def photographs(n: int = 1, size: int | tuple[int, int] = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, *sides_of(size), generator=torch.Generator().manual_seed(seed)) * 255


def model_of(backbone: str, size: int | tuple[int, int] = SIZE) -> ExplainedModel:
    with pytest.MonkeyPatch.context() as patch:
        make_narrow(patch)
        network = weights.build(ModelConfig(backbone, "none", "auto", CUTS[backbone]), seed=0)[0]
    # A random head gives nearly the same score to every image.
    with torch.no_grad():
        network.head.weight.mul_(10)
    return ExplainedModel(
        network,
        ["good", "anomaly"],
        sides_of(size),
        network.normalize.mean,
        background=lambda: photographs(3, size, seed=9),
    )


def scores_of(model: ExplainedModel, images: torch.Tensor, target: int = 1) -> np.ndarray:
    with torch.no_grad():
        return ClassScore(model, target)(images).numpy()


class Tiny(nn.Module):
    """Two convolutions with ReLUs, a global average, one dense layer of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU()
        )
        self.fc = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images / 255 - 0.5).mean((2, 3)))


def tiny(size: int = 16) -> ExplainedModel:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = Tiny()
        network.features[2].running_mean.uniform_(-1, 1)
        network.features[2].running_var.uniform_(0.5, 2)
        nn.init.uniform_(network.features[2].bias)
        network.fc.weight.mul_(20)
    baseline = torch.full((3, 1, 1), 127.5)
    return ExplainedModel(
        network.eval(), ["a", "b", "c"], (size, size), baseline, background=lambda: photographs(4, size, seed=5)
    )
