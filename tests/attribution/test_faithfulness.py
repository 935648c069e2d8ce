"""Insertion, deletion, and maps of a network that has forgotten what it learnt."""

import numpy as np
import pytest
import torch
from asked import photographs, subject_of, tiny
from torch import nn

from defectloc.attribution.faithfulness import insertion_deletion
from defectloc.attribution.sanity import change, shuffled
from defectloc.attribution.subject import Question, Subject


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
    asked = Subject(Quarter(), ["good", "anomaly"], 32, torch.zeros(3, 1, 1))
    heat = np.zeros((32, 32))
    heat[:16, :16] = 1
    question = Question(asked, 1)
    insertion, deletion = insertion_deletion(question, image, heat, 16, 5, 0)
    against_insertion, against_deletion = insertion_deletion(question, image, -heat, 16, 5, 0)
    # Out of 16 steps, about two until half of the quarter is gone.
    assert deletion == pytest.approx(2 / 16, abs=0.02)
    assert against_deletion == pytest.approx(14 / 16, abs=0.02)
    # The blurred quarter is dark at its rim only, and already bright enough.
    assert insertion >= against_insertion - 1e-6
    assert question.evaluations == 4 * 17


def test_insertion_and_deletion_leave_the_network_as_it_was_and_repeat():
    asked = subject_of("densenet121")
    asked.network.train()
    heat = np.ones((64, 64))
    first, second, other = (
        insertion_deletion(Question(asked, 1), photographs(), heat, 4, 3, seed) for seed in (0, 0, 1)
    )
    assert asked.network.training
    assert first == second
    assert first != other
    assert all(0 <= value <= 1 for value in first)


def test_shuffling_keeps_the_numbers_and_not_their_places():
    asked = tiny()
    other = shuffled(asked, 0)
    assert other.key != asked.key
    for before, after in zip(asked.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
    assert not torch.equal(asked.network.fc.weight, other.network.fc.weight)
    assert torch.equal(other.network.fc.weight, shuffled(asked, 0).network.fc.weight)


def test_change_of_a_map():
    rng = np.random.default_rng(0)
    heat = rng.random((20, 20))
    assert change(heat, heat) == pytest.approx(0)
    assert change(heat, -(heat**3)) == pytest.approx(0)
    assert change(heat, rng.random((20, 20))) == pytest.approx(1, abs=0.15)
    assert change(heat, np.zeros((20, 20))) is None
    assert change(heat, np.full((20, 20), np.nan)) is None
