"""The fit: its loss by hand, when it stops, what it leaves alone, and that a resumed one is the same."""

import copy
import functools
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from defectloc.config import ModelConfig, TrainingConfig
from defectloc.data.datasets import FeatureDataset
from defectloc.data.module import FoldData, loader
from defectloc.model import weights
from defectloc.model.classifier import Classifier
from defectloc.model.fit import LAST, DefectClassifier, fit
from defectloc.model.trunk import Trunk

N = 24
# The validation split of `noise` says nothing about its labels, so its loss is soon at its lowest.
FAST = {
    "epochs": 4,
    "batch_size": 5,
    "learning_rate": 1e-3,
    "target_train_accuracy": 1.1,
    "start": "logistic",
    "schedule": "onecycle",
    "keep": "validation",
}


@functools.cache
def _fresh(name: str, cut: str) -> Classifier:
    return weights.build(ModelConfig(name, "none", "auto", cut), seed=0)[0]


def classifier_of(name: str = "densenet121", cut: str = "norm5") -> Classifier:
    return copy.deepcopy(_fresh(name, cut))


def fold_data(shift: float = 3.0, n_validation: int = 8) -> FoldData:
    """Features of 1,024 channels; those of defective parts lie `shift` standard deviations away."""
    random = np.random.default_rng(0)
    labels = [i % 2 for i in range(N)]
    features = random.normal(size=(N, 1024, 2, 2)).astype(np.float32) + shift * np.array(labels)[:, None, None, None]
    train = FeatureDataset(list(features[n_validation:]), labels[n_validation:])
    validation = FeatureDataset(list(features[:n_validation]), labels[:n_validation]) if n_validation else None
    return FoldData(train, validation, batch_size=5, seed=0, workers=0)


def noise(seed: int, n: int) -> FeatureDataset:
    features = np.random.default_rng(seed).normal(0, 1, (n, 1024, 2, 2)).astype(np.float16)
    return FeatureDataset(list(features), [int(index % 3 == 0) for index in range(n)])


def noise_data(resident: bool = False) -> FoldData:
    return FoldData(noise(0, 23), noise(1, 9), FAST["batch_size"], 0, 0, resident=resident)


def module_of(kind: type[DefectClassifier] = DefectClassifier, **training) -> DefectClassifier:
    return kind(classifier_of(), TrainingConfig(**training), [1.0, 3.0], seed=0)


def fitted(
    folder: Path, data: FoldData | None = None, kind: type[DefectClassifier] = DefectClassifier, **training
) -> DefectClassifier:
    module = module_of(kind, **training)
    fit(module, data or fold_data(), folder, "cpu", "float32")
    return module


def assert_same(one: DefectClassifier, other: DefectClassifier) -> None:
    first, second = one.classifier.state_dict(), other.classifier.state_dict()
    assert not [name for name in first if not torch.equal(first[name], second[name])]
    assert one.history == other.history


def test_loss_weighs_the_classes_as_computed_by_hand():
    module = module_of()
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    # p(defective) = 3/4: a good part costs log 4 with weight 1, a defective one log 4/3 with weight 3.
    expected = (1 * math.log(4) + 3 * math.log(4 / 3)) / (1 + 3)
    assert module.loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-6)
    assert module.loss(logits[:1], torch.tensor([1])).item() == pytest.approx(math.log(4 / 3), rel=1e-6)


def test_losses_of_an_epoch_weigh_the_classes_where_each_batch_has_one(tmp_path):
    """Inside a batch of one class the weights cancel, so batches must not be averaged."""
    values = np.random.default_rng(0).normal(size=(12, 1024, 1, 1)).astype(np.float32)
    # Batches of 4 in this order: good, good, defective.
    labels = [0] * 8 + [1] * 4
    data = FoldData(FeatureDataset(list(values), labels), FeatureDataset(list(values), labels), 4, seed=0, workers=0)
    classifier = classifier_of(cut="head")
    training = TrainingConfig(epochs=1, learning_rate=1e-12, target_train_accuracy=1.1)
    module = DefectClassifier(classifier, training, [1.0, 3.0], seed=0)
    fit(module, data, tmp_path, "cpu", "float32")
    with torch.no_grad():
        logits = classifier.channels(torch.from_numpy(values)).mean((2, 3))
    losses = F.cross_entropy(logits, torch.tensor(labels), reduction="none").double().numpy()
    expected = (losses[:8].sum() + 3 * losses[8:].sum()) / (8 + 3 * 4)
    assert abs(losses[:8].mean() - losses[8:].mean()) > 0.1
    assert module.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert module.history[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_steps_do_not_ask_the_device_for_numbers(monkeypatch):
    """Each such question would make a GPU wait for the host."""

    def refuse(*_, **__):
        raise AssertionError

    module = module_of()
    inputs, labels = torch.rand(4, 1024, 2, 2), torch.tensor([0, 1, 0, 1])
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    monkeypatch.setattr(torch, "unique", refuse)
    module.training_step((inputs, labels), 0)
    module.validation_step((inputs, labels), 0)


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


def test_fit_without_a_validation_split(tmp_path):
    module = fitted(tmp_path, fold_data(n_validation=0), epochs=1)
    assert module.history[0]["validation_loss"] is None


class Photographs(torch.utils.data.Dataset):
    def __init__(self, n: int, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pixels, self.labels = torch.rand(n, 3, size, size, generator=generator) * 255, [0, 1] * (n // 2)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        return self.pixels[key[1]], self.labels[key[1]]


@pytest.mark.parametrize(("name", "cut"), [("densenet121", "norm5"), ("resnet50", "layer4")])
def test_trunk_is_the_same_to_the_bit_after_a_fit_on_images(tmp_path, name, cut):
    """Parameters and the statistics of its normalisations; the tail learns."""
    classifier = classifier_of(name, cut)
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    training = TrainingConfig(epochs=1, learning_rate=0.01)
    module = DefectClassifier(classifier, training, [1.0, 3.0], seed=0, from_images=True)
    fit(module, FoldData(Photographs(4, 64), None, batch_size=4, seed=0, workers=0), tmp_path, "cpu", "float32")
    changed = {key for key, value in classifier.state_dict().items() if not torch.equal(value, before[key])}
    assert not [key for key in changed if key.startswith("trunk.")]
    assert {"head.weight", "head.bias"} <= changed
    assert [key for key in changed if key.startswith("tail.") and key.endswith("weight")]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_fit_from_images_is_the_one_from_stored_features(tmp_path, precision):
    """The trunk has one precision, before the first step as well."""
    photographs, heads = Photographs(8, 32), []
    for from_images in (True, False):
        classifier, images = classifier_of(cut="head"), photographs
        trunk = Trunk(classifier, "cpu", precision)
        if not from_images:
            stored = trunk(list(photographs.pixels), [classifier.level])[classifier.level]
            images = FeatureDataset(list(stored), photographs.labels)
        training = TrainingConfig(epochs=1, start="logistic", target_train_accuracy=1.1)
        module = DefectClassifier(classifier, training, [1.0, 3.0], 0, from_images)
        # In batches of one, as the trunk computes: another size rounds otherwise.
        fit(module, FoldData(images, None, 1, 0, 0), tmp_path / f"{from_images}", "cpu", precision)
        heads.append(classifier.head.weight.detach())
    # Below what rounding the trunk's output changes.
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-4, atol=1e-6)


def test_inputs_of_three_channels_are_features_unless_said():
    classifier = classifier_of(cut="denseblock4")
    inputs = torch.rand(2, 3, 4, 4)
    assert torch.equal(DefectClassifier(classifier, TrainingConfig(), [1.0, 1.0], 0).features(inputs), inputs)


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
    epochs = []
    monkeypatch.setattr(
        DefectClassifier, "training_step", lambda self, *a: (epochs.append(self.current_epoch), step(self, *a))[1]
    )
    resumed = fitted(tmp_path / "killed", **arguments)
    assert set(epochs) == {2, 3}
    assert_same(resumed, whole)


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_seconds_of_a_killed_process_count(tmp_path, epochs):
    """Where epochs are left, and where only the results were."""
    fitted(tmp_path, epochs=1, target_train_accuracy=1.1)
    content = torch.load(tmp_path / LAST, weights_only=True)
    assert 0 < content["seconds"] < 1e6
    torch.save(content | {"seconds": 1e6}, tmp_path / LAST)
    module = fitted(tmp_path, epochs=epochs, target_train_accuracy=1.1)
    assert len(module.history) == epochs
    assert time.perf_counter() - module.started > 1e6


class Dies(DefectClassifier):
    """Ends like a killed process at the start of the third epoch."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 2:
            raise MemoryError


@pytest.mark.parametrize("resident", [False, True])
def test_a_stopped_fast_fit_goes_on_to_the_same_weights(tmp_path, resident):
    """Also where its features lie on the device as one tensor."""
    training = FAST | {"patience": 9}
    undisturbed = fitted(tmp_path / "undisturbed", noise_data(), **training)
    with pytest.raises(MemoryError):
        fitted(tmp_path / "stopped", noise_data(resident), Dies, **training)
    again = fitted(tmp_path / "stopped", noise_data(resident), **training)
    assert len(again.history) == 4
    assert_same(again, undisturbed)
    assert_same(fitted(tmp_path / "stopped", noise_data(), **training), undisturbed)


def test_finished_fit_is_taken_over_without_a_step(tmp_path, monkeypatch):
    first = fitted(tmp_path, epochs=2, target_train_accuracy=1.1)
    monkeypatch.setattr(DefectClassifier, "training_step", None)
    second = fitted(tmp_path, epochs=2, target_train_accuracy=1.1)
    assert second.history == first.history
    assert torch.equal(second.classifier.head.weight, first.classifier.head.weight)


def test_the_epoch_of_the_lowest_validation_loss_is_kept(tmp_path):
    module = fitted(tmp_path, noise_data(), **FAST)
    losses = [epoch["validation_loss"] for epoch in module.history]
    module.classifier.eval()
    with torch.inference_mode():
        batches = [(module.logits(inputs), labels) for inputs, labels in loader(noise(1, 9), 5, None, 0)]
        logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert float(module.loss(logits, labels)) == pytest.approx(min(losses), rel=1e-5)


def test_the_fit_waits_as_many_epochs_as_it_is_told(tmp_path):
    for patience in (1, 2):
        training = FAST | {"epochs": 12, "patience": patience, "schedule": "constant"}
        losses = [e["validation_loss"] for e in fitted(tmp_path / f"{patience}", noise_data(), **training).history]
        assert len(losses) == 12 or losses.index(min(losses)) == len(losses) - 1 - patience
        assert len(losses) < 12


def test_one_cycle_rises_and_falls(tmp_path):
    rates = []

    class Watched(DefectClassifier):
        def on_train_batch_start(self, *_):
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    fitted(tmp_path, noise_data(), Watched, **FAST | {"patience": 9})
    assert len(rates) == 4 * 5
    assert max(rates) == pytest.approx(FAST["learning_rate"], rel=0.02)
    assert np.argmax(rates) in range(3, 8)
    assert rates[-1] < rates[0] / 10


def test_order_is_a_function_of_seed_and_epoch():
    loaders = [FoldData(*[fold_data()._train] * 2, 5, seed, 0).train_dataloader() for seed in (0, 0, 1)]
    orders = []
    for each, epoch in zip(loaders, (3, 3, 3), strict=True):
        each.sampler.set_epoch(epoch)
        orders.append(list(each.sampler))
    loaders[0].sampler.set_epoch(4)
    assert orders[0] == orders[1] != orders[2]
    assert [i for _, i in loaders[0].sampler] != [i for _, i in orders[0]]
    assert sorted(i for _, i in orders[0]) == list(range(16))


@pytest.mark.parametrize("content", [b"", b"half of a checkpoint"])
def test_a_checkpoint_that_cannot_be_read_counts_as_missing(tmp_path, capsys, content):
    """As after a power cut."""
    expected = fitted(tmp_path / "whole", epochs=1)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / LAST).write_bytes(content)
    assert_same(fitted(tmp_path / "cut", epochs=1), expected)
    assert "starts again" in capsys.readouterr().err
