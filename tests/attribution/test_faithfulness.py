"""Insertion and deletion."""

import numpy as np
import pytest
import torch
from torch import nn

from defectloc.attribution.faithfulness import insertion_deletion
from defectloc.attribution.network import ClassScore, ExplainedModel
from tests.attribution.networks import model_of, photographs


class Quarter(nn.Module):
    """Two classes: the probability of the second is high as soon as the upper left quarter is bright enough."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        side = images.shape[-1] // 2
        value = (images[:, :, :side, :side].mean((1, 2, 3)) / 255 - 0.5) * 40 * self.scale
        return torch.stack([-value, value], 1)


def test_insertion_and_deletion_by_hand():
    """A quarter of the pixels decides: taken first, four of sixteen steps matter, taken last, the last four."""
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, :16, :16] = 255
    model = ExplainedModel(Quarter(), ["good", "anomaly"], 32, torch.zeros(3, 1, 1))
    values = np.zeros((32, 32))
    values[:16, :16] = 1
    score = ClassScore(model, 1)
    insertion, deletion = insertion_deletion(score, image, values, 16, 5, 0)
    against_insertion, against_deletion = insertion_deletion(score, image, -values, 16, 5, 0)
    # Out of 16 steps, about two until half of the quarter is gone.
    assert deletion == pytest.approx(2 / 16, abs=0.02)
    assert against_deletion == pytest.approx(14 / 16, abs=0.02)
    # The blurred quarter is dark at its rim only, and already bright enough.
    assert insertion >= against_insertion - 1e-6
    assert score.evaluations == 4 * 17


def test_insertion_and_deletion_leave_the_network_as_it_was_and_repeat():
    model = model_of("densenet121")
    model.network.train()
    values = np.ones((64, 64))
    first, second, other = (
        insertion_deletion(ClassScore(model, 1), photographs(), values, 4, 3, seed) for seed in (0, 0, 1)
    )
    assert model.network.training
    assert first == second
    assert first != other
    assert all(0 <= value <= 1 for value in first)
