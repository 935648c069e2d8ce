"""The clock at the steps of a fit."""

import torch

from defectloc.benchmarks.steps import timed_fit
from defectloc.config import TrainingConfig
from defectloc.data.datasets import FeatureDataset
from defectloc.model.classifier import Classifier


def test_the_first_step_of_each_epoch_is_left_out():
    classifier = Classifier("vgg16", "head", "oxford")
    features = list(torch.rand(30, 512, 1, 1, generator=torch.Generator().manual_seed(0)).numpy())
    dataset = FeatureDataset(features, [index % 2 for index in range(30)])
    training = TrainingConfig(epochs=2, target_train_accuracy=1.1)
    times = timed_fit(classifier, dataset, dataset, training, ("cpu", "float32"))
    assert len(times.steps) == 2 * 2
    assert len(times.validation) == 2 * 2
    assert min(times.steps) > 0
    assert times.step > 0
