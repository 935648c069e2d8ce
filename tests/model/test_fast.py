"""training=fast: the head's start, the kept epoch, a fit that was stopped; and features that lie on the device."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SYNTHETIC
from sklearn.linear_model import LogisticRegression

from defectloc.config import TrainingConfig
from defectloc.data.module import FeatureDataset, FoldData, loader
from defectloc.data.resident import ResidentLoader, fits
from defectloc.data.views import Views
from defectloc.model.classifier import Classifier
from defectloc.model.fit import DefectClassifier, fit
from defectloc.model.start import logistic_head, start_head

N = 23
LABELS = [index % 3 == 0 for index in range(N)]
FAST = TrainingConfig(
    epochs=4,
    batch_size=5,
    learning_rate=1e-3,
    target_train_accuracy=1.1,
    start="logistic",
    schedule="onecycle",
    keep="validation",
)


def features(seed: int, n: int = N) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(0, 1, (n, 1024, 2, 2)).astype(np.float16))


def dataset(seed: int = 0, n: int = N) -> FeatureDataset:
    return FeatureDataset(features(seed, n), [int(label) for label in LABELS[:n]])


def data(resident: bool = False, train: FeatureDataset | None = None) -> FoldData:
    return FoldData(train or dataset(), dataset(1, 9), FAST.batch_size, 0, 0, resident=resident)


def module(training: TrainingConfig = FAST, kind: type[DefectClassifier] = DefectClassifier) -> DefectClassifier:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return kind(Classifier("resnet50", "layer4", "torchvision"), training, [1.0, 3.0], 0)


def state(fitted: DefectClassifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fitted.classifier.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def test_logistic_head_is_a_logistic_regression():
    rng = np.random.default_rng(0)
    labels = np.array(LABELS, int)
    pooled = rng.normal(3, 2, (N, 6)) + labels[:, None]
    pooled[:, 4] = 7
    weights, bias = logistic_head(pooled, labels, [1.0, 3.0], strength=0.5)
    sd = np.where(pooled.std(0) > 0, pooled.std(0), 1)
    standard = (pooled - pooled.mean(0)) / sd
    expected = LogisticRegression(C=0.5, class_weight={0: 1.0, 1: 3.0}).fit(standard, labels)
    np.testing.assert_allclose(pooled @ weights + bias, expected.decision_function(standard), atol=1e-3)
    assert weights[4] == 0


@pytest.mark.parametrize("cut", ["layer4", "head"])
def test_started_head_gives_the_log_odds_of_the_regression(cut):
    torch.manual_seed(0)
    classifier = Classifier("resnet50", cut, "torchvision")
    images = torch.rand(8, 3, 32, 32) * 255
    labels = torch.tensor([0, 1] * 4)
    start_head(classifier, [(images[:5], labels[:5]), (images[5:], labels[5:])], [1.0, 3.0])
    classifier.eval()
    with torch.inference_mode():
        pooled = classifier.tail(classifier.features(images)).mean((2, 3)).numpy()
        logits = classifier(images).numpy()
    weights, bias = logistic_head(pooled, labels.numpy(), [1.0, 3.0])
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], pooled @ weights + bias, atol=1e-4)
    np.testing.assert_allclose(logits.sum(1), 0, atol=1e-5)


def test_start_is_the_same_from_images_and_from_features():
    torch.manual_seed(0)
    one, other = (Classifier("vgg16", "conv1_1", "oxford") for _ in range(2))
    other.load_state_dict(one.state_dict())
    images, labels = torch.rand(6, 3, 32, 32) * 255, torch.tensor([0, 1] * 3)
    start_head(one, [(images, labels)], [1.0, 1.0])
    start_head(other, [(other.features(images), labels)], [1.0, 1.0])
    torch.testing.assert_close(one.head.weight, other.head.weight)
    log_odds = one.eval()(images).diff(dim=1).squeeze(1)
    assert ((log_odds > 0) == (labels == 1)).float().mean() >= 0.5


def test_the_epoch_of_the_lowest_validation_loss_is_kept(tmp_path):
    fitted = module()
    fit(fitted, data(), tmp_path, "cpu", "float32")
    losses = [epoch["validation_loss"] for epoch in fitted.history]
    fitted.classifier.eval()
    with torch.inference_mode():
        total, n = 0.0, 0
        for inputs, labels in loader(dataset(1, 9), FAST.batch_size, None, 0):
            total += float(fitted.loss(fitted.logits(inputs), labels)) * len(labels)
            n += len(labels)
    assert total / n == pytest.approx(min(losses), rel=1e-5)


def test_the_fit_waits_as_many_epochs_as_it_is_told(tmp_path):
    """Labels of the validation part are noise, so its loss is soon at its lowest."""
    for patience in (1, 2):
        training = TrainingConfig(**{**vars(FAST), "epochs": 12, "patience": patience, "schedule": "constant"})
        fitted = module(training)
        fit(fitted, data(), tmp_path / f"{patience}", "cpu", "float32")
        losses = [epoch["validation_loss"] for epoch in fitted.history]
        assert len(losses) == 12 or losses.index(min(losses)) == len(losses) - 1 - patience
        assert len(losses) < 12


class Dies(DefectClassifier):
    """Stops like a killed process at the start of the third epoch."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 2:
            raise MemoryError


@pytest.mark.parametrize("resident", [False, True])
def test_a_stopped_fit_goes_on_to_the_same_weights(tmp_path, resident):
    training = TrainingConfig(**{**vars(FAST), "patience": 9})
    undisturbed, again = module(training), module(training)
    fit(undisturbed, data(), tmp_path / "undisturbed", "cpu", "float32")
    with pytest.raises(MemoryError):
        fit(module(training, Dies), data(resident), tmp_path / "stopped", "cpu", "float32")
    fit(again, data(resident), tmp_path / "stopped", "cpu", "float32")
    assert again.history == undisturbed.history
    assert len(again.history) == 4
    assert_same(state(again), state(undisturbed))
    taken_over = module(training)
    fit(taken_over, data(), tmp_path / "stopped", "cpu", "float32")
    assert_same(state(taken_over), state(undisturbed))


def test_one_cycle_rises_and_falls(tmp_path):
    rates = []

    class Watched(DefectClassifier):
        def on_train_batch_start(self, *_):
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    fit(module(TrainingConfig(**{**vars(FAST), "patience": 9}), Watched), data(), tmp_path, "cpu", "float32")
    assert len(rates) == 4 * 5
    assert max(rates) == pytest.approx(FAST.learning_rate, rel=0.02)
    assert np.argmax(rates) in range(3, 8)
    assert rates[-1] < rates[0] / 10


@pytest.mark.parametrize("several", [False, True])
def test_resident_batches_are_those_of_the_loader(several):
    plain = dataset()
    if several:
        views = Views(["plain", "both"], 0)
        plain = FeatureDataset(features(0), plain.labels, [features(2)], views.draw)
    usual, resident = loader(plain, 5, 7, 0), ResidentLoader(plain, 5, 7, "cpu")
    assert len(usual) == len(resident) == 5
    for epoch in (0, 3):
        usual.sampler.set_epoch(epoch)
        resident.sampler.set_epoch(epoch)
        pairs = list(zip(usual, resident, strict=True))
        assert all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))
    assert plain.n_bytes() == (1 + several) * N * 1024 * 4 * 2


def test_resident_features_give_the_same_fit(tmp_path):
    usual, resident = module(), module()
    fit(usual, data(False), tmp_path / "usual", "cpu", "float32")
    fit(resident, data(True), tmp_path / "resident", "cpu", "float32")
    assert_same(state(resident), state(usual))
    assert resident.history == usual.history


@pytest.mark.parametrize(("free", "expected"), [(10**9, True), (200_000, False)])
def test_features_lie_on_a_gpu_where_they_fit(monkeypatch, free, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 10**10))
    assert fits(dataset(), "cuda") is expected
    assert not fits(dataset(), "cpu")


def test_fast_fit_by_the_command_line(command):
    small = [typed for typed in SYNTHETIC if not typed.startswith("training.")]
    outcome = command("train", *small, "model=densenet121", "training=fast")
    assert outcome.code == 0, outcome.err
    (path,) = Path("outputs").glob("pill/*/run.json")
    record = json.loads(path.read_text())
    assert record["settings"]["training"]["start"] == "logistic"
    history = pd.read_csv(path.parent / "history.csv")
    assert len(history) == record["epochs"] <= record["settings"]["training"]["epochs"]
    assert history["validation_loss"].notna().all()


def test_keeping_by_validation_needs_a_validation_part(command):
    assert "data.validation" in command("train", *SYNTHETIC, "training=fast", "data.validation=0").sentence
    assert "training.start" in command("train", *SYNTHETIC, "training.start=warm").sentence
