"""The head's start as a logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from defectloc.model.classifier import Classifier
from defectloc.model.start import logistic_head, start_head

N = 23
LABELS = [index % 3 == 0 for index in range(N)]


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
    batches = [(images[:5], labels[:5]), (images[5:], labels[5:])]
    start_head(classifier, batches, [1.0, 3.0], classifier.features)
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
    start_head(one, [(images, labels)], [1.0, 1.0], one.features)
    start_head(other, [(other.features(images), labels)], [1.0, 1.0], lambda features: features)
    torch.testing.assert_close(one.head.weight, other.head.weight)
    log_odds = one.eval()(images).diff(dim=1).squeeze(1)
    assert ((log_odds > 0) == (labels == 1)).float().mean() >= 0.5
