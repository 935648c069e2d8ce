"""The fit: its loss by hand, when it stops, what it leaves alone, and that a resumed one is the same."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from defectloc.config import ModelConfig, TrainingConfig
from defectloc.data.module import FeatureDataset, FoldData
from defectloc.model import weights
from defectloc.model.classifier import Classifier
from defectloc.model.fit import DefectClassifier, balanced_weights, fit

N = 24


def classifier_of(name: str = "densenet121", cut: str = "norm5") -> Classifier:
    return weights.build(ModelConfig(name, "none", "auto", cut), seed=0)[0]


def fold_data(shift: float = 3.0, n_validation: int = 8) -> FoldData:
    """Features of 1,024 channels; those of defective parts lie `shift` standard deviations away."""
    random = np.random.default_rng(0)
    labels = [i % 2 for i in range(N)]
    features = random.normal(size=(N, 1024, 2, 2)).astype(np.float32) + shift * np.array(labels)[:, None, None, None]
    train = FeatureDataset(list(features[n_validation:]), labels[n_validation:])
    validation = FeatureDataset(list(features[:n_validation]), labels[:n_validation]) if n_validation else None
    return FoldData(train, validation, batch_size=5, seed=0, workers=0)


def fitted(folder: Path, data: FoldData | None = None, **training) -> DefectClassifier:
    module = DefectClassifier(classifier_of(), TrainingConfig(**training), [1.0, 3.0], seed=0)
    fit(module, data or fold_data(), folder, "cpu", "float32")
    return module


def test_loss_weighs_the_classes_as_computed_by_hand():
    module = DefectClassifier(classifier_of(), TrainingConfig(), [1.0, 3.0], seed=0)
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    # p(defective) = 3/4: a good part costs log 4 with weight 1, a defective one log 4/3 with weight 3.
    expected = (1 * math.log(4) + 3 * math.log(4 / 3)) / (1 + 3)
    assert module.loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-6)
    assert module.loss(logits[:1], torch.tensor([1])).item() == pytest.approx(math.log(4 / 3), rel=1e-6)


def test_balanced_weights_by_hand():
    assert balanced_weights([0, 0, 0, 1]) == [4 / 6, 2.0]


def test_fit_stops_when_the_training_accuracy_passes_its_target(tmp_path):
    module = fitted(tmp_path, learning_rate=0.05, epochs=10)
    accuracies = [epoch["train_accuracy"] for epoch in module.history]
    assert 1 < len(accuracies) < 10
    assert accuracies[-1] > 0.98
    assert all(accuracy <= 0.98 for accuracy in accuracies[:-1])


def test_fit_never_stops_early_with_a_target_above_one(tmp_path):
    module = fitted(tmp_path, learning_rate=0.05, epochs=4, target_train_accuracy=1.1)
    assert [epoch["epoch"] for epoch in module.history] == [1, 2, 3, 4]
    assert all(epoch["validation_loss"] > 0 for epoch in module.history)


def test_fit_without_a_validation_part(tmp_path):
    module = fitted(tmp_path, fold_data(n_validation=0), epochs=1)
    assert module.history[0]["validation_loss"] is None


@pytest.mark.parametrize(("name", "cut"), [("densenet121", "norm5"), ("resnet50", "layer4")])
def test_trunk_is_the_same_to_the_bit_after_a_fit_on_images(tmp_path, name, cut):
    """Parameters and the statistics of its normalisations; the tail learns."""

    class Photographs(torch.utils.data.Dataset):
        labels = (0, 1, 0, 1)

        def __len__(self):
            return 4

        def __getitem__(self, key):
            pixels = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(key[1])) * 255
            return pixels, self.labels[key[1]]

    classifier = classifier_of(name, cut)
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    module = DefectClassifier(classifier, TrainingConfig(epochs=1, learning_rate=0.01), [1.0, 3.0], seed=0)
    fit(module, FoldData(Photographs(), None, batch_size=4, seed=0, workers=0), tmp_path, "cpu", "float32")
    changed = {key for key, value in classifier.state_dict().items() if not torch.equal(value, before[key])}
    assert not [key for key in changed if key.startswith("trunk.")]
    assert {"head.weight", "head.bias"} <= changed
    assert [key for key in changed if key.startswith("tail.") and key.endswith("weight")]


class KilledError(Exception):
    pass


def test_killed_fit_goes_on_from_the_last_epoch_and_ends_identical(tmp_path, monkeypatch):
    arguments = {"epochs": 4, "target_train_accuracy": 1.1, "learning_rate": 0.01}
    whole = fitted(tmp_path / "whole", **arguments)

    step = DefectClassifier.training_step

    def killed(self, batch, index):
        if self.current_epoch == 2 and index == 1:
            raise KilledError
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(DefectClassifier, "training_step", killed)
        with pytest.raises(KilledError):
            fitted(tmp_path / "killed", **arguments)
    seen = []
    monkeypatch.setattr(
        DefectClassifier, "training_step", lambda self, *a: (seen.append(self.current_epoch), step(self, *a))[1]
    )
    resumed = fitted(tmp_path / "killed", **arguments)
    assert set(seen) == {2, 3}
    assert resumed.history == whole.history
    for key, value in whole.classifier.state_dict().items():
        assert torch.equal(value, resumed.classifier.state_dict()[key]), key


def test_finished_fit_is_taken_over_without_a_step(tmp_path, monkeypatch):
    first = fitted(tmp_path, epochs=2, target_train_accuracy=1.1)
    monkeypatch.setattr(DefectClassifier, "training_step", None)
    second = fitted(tmp_path, epochs=2, target_train_accuracy=1.1)
    assert second.history == first.history
    assert torch.equal(second.classifier.head.weight, first.classifier.head.weight)


def test_order_is_a_function_of_seed_and_epoch():
    loaders = [FoldData(*[fold_data()._train] * 2, 5, seed, 0).train_dataloader() for seed in (0, 0, 1)]
    orders = []
    for loader, epoch in zip(loaders, (3, 3, 3), strict=True):
        loader.sampler.set_epoch(epoch)
        orders.append(list(loader.sampler))
    loaders[0].sampler.set_epoch(4)
    assert orders[0] == orders[1] != orders[2]
    assert [i for _, i in loaders[0].sampler] != [i for _, i in orders[0]]
    assert sorted(i for _, i in orders[0]) == list(range(16))
