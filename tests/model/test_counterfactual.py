"""The decision once all that is not anomalous is replaced by good cells."""

import numpy as np
import pytest
import torch

from defectloc.model import counterfactual
from defectloc.model.classifier import Classifier, class_activation_map
from defectloc.model.counterfactual import NormalFeatures


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier("vgg16", "conv5_1", "oxford").eval()


def inputs(n: int, seed: int) -> np.ndarray:
    """Give what the tail takes of images of 64 px, far enough apart that no two good cells are equally near."""
    return np.abs(np.random.default_rng(seed).normal(size=(n, 512, 4, 4))).astype(np.float32)


def own_log_odds(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return class_activation_map(classifier.channels(torch.from_numpy(features))).mean((1, 2)).numpy()


def test_where_all_is_anomalous_the_decision_is_retained(classifier):
    features = inputs(3, 1)
    normal = NormalFeatures.fit([inputs(4, 0)], 4, seed=0)
    retained = normal.retained(classifier, features, np.full((3, 8, 8), 9.0))
    np.testing.assert_allclose(retained.log_odds, own_log_odds(classifier, features), atol=1e-5)
    assert retained.cells.all()


def test_where_nothing_is_anomalous_the_part_is_made_of_good_cells(classifier):
    features = inputs(3, 1)
    normal = NormalFeatures.fit([inputs(4, 0)], 4, seed=0)
    log_odds, cells = normal.retained(classifier, features, np.zeros((3, 8, 8)))
    assert not cells.any()
    flat, bank = features.transpose(0, 2, 3, 1).reshape(-1, 512), normal.vectors.numpy()
    gaps = np.linalg.norm((flat[:, None] - bank[None]) / normal.sd.numpy(), axis=2)
    made = bank[gaps.argmin(1)].reshape(3, 4, 4, 512).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(log_odds, own_log_odds(classifier, np.ascontiguousarray(made)), atol=1e-5)


def test_an_anomalous_cell_is_retained_with_its_neighbours(classifier):
    anomaly = np.zeros((1, 8, 8))
    anomaly[0, 0, 0] = 9
    cells = NormalFeatures.fit([inputs(4, 0)], 4, seed=0).retained(classifier, inputs(1, 1), anomaly).cells
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(cells[0], expected)


def test_of_more_good_images_than_places_any_can_give_its_cell(monkeypatch):
    """Each image is of one number, so that the cells tell where they are from."""
    monkeypatch.setattr(counterfactual, "MOST", 4)
    images = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None, None], (12, 2, 2, 2))
    found = [NormalFeatures.fit(np.split(images, 3), 12, seed).vectors[:, 0].tolist() for seed in range(20)]
    assert all(len(set(each)) == 4 for each in found)
    assert {value for each in found for value in each} == set(range(12))


def test_anomaly_maps_of_several_shapes_are_brought_to_the_class_grid(classifier):
    """A photograph in tiles has a finer anomaly map than class map, of its own aspect."""
    fine, coarse = np.zeros((24, 40)), np.zeros((4, 4))
    fine[23, 39] = coarse[3, 3] = 9
    normal = NormalFeatures.fit([inputs(4, 0)], 4, seed=0)
    features = inputs(2, 1)
    found = normal.retained(classifier, features, [fine, coarse])
    np.testing.assert_array_equal(found.cells[0], found.cells[1])
    assert found.log_odds[0] == pytest.approx(
        normal.retained(classifier, features[:1], coarse[None]).log_odds[0], abs=1e-5
    )
