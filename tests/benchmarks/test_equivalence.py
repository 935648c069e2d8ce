"""Differences between fits are told as they are."""

import numpy as np
import torch

from defectloc.benchmarks.equivalence import InChunks, differences
from defectloc.config import TrainingConfig
from defectloc.model.classifier import Classifier


def test_differences_count_changed_decisions():
    first = np.array([[1.0, 2.0]]), np.array([-3.0, 0.01, 2.0, -2.0])
    other = np.array([[1.0, 2.5]]), np.array([-3.0, -0.01, -2.0, -2.5])
    found = differences(first, other)
    assert found == {"features": 0.25, "log_odds": 4.0, "decisions": 2, "near": 1}


def test_a_trunk_in_chunks_gives_all_images_in_order():
    classifier = Classifier("vgg16", "conv2_1", "oxford").eval()
    images = torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    module = InChunks(classifier, TrainingConfig(), [1.0, 3.0], 0, from_images=True)
    torch.testing.assert_close(module.features(images), classifier.features(images), rtol=1e-3, atol=1e-3)
