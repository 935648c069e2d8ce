"""The predicted class, and the classes to explain."""

import numpy as np
import pytest
import torch

from defectloc.attribution.prediction import ClassPrediction, predict, targets_of
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from tests.attribution.networks import tiny


def test_targets_by_word_index_and_name():
    prediction = ClassPrediction(np.array([0.1, 0.5, 0.05, 0.35]), 1)
    names = ["cat", "dog", "tree frog", "2"]
    assert targets_of(None, names, prediction) == [1]
    assert targets_of("top3", names, prediction) == [1, 3, 0]
    assert targets_of("2", names, prediction) == [2]
    assert targets_of("Tree Frog", names, prediction) == [2]
    with pytest.raises(DefectlocError, match="tree frog"):
        targets_of("frog", names, prediction)
    assert targets_of(None, ["good", "anomaly"], ClassPrediction(np.array([0.9, 0.1]), 0)) == [1]
    assert targets_of("predicted", ["good", "anomaly"], ClassPrediction(np.array([0.9, 0.1]), 0)) == [0]


def test_prediction_is_the_softmax_of_the_resized_image():
    model = tiny()
    model.network.train()
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    found = predict(model, image)
    assert model.network.training
    model.network.eval()
    with torch.no_grad():
        expected = model.network(resize(image, 16)[None])[0].softmax(0)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.predicted == int(expected.argmax())
