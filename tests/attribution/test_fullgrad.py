"""The shares of FullGrad."""

import pytest

from defectloc.attribution.fullgrad import shares
from defectloc.attribution.network import ClassScore, undisturbed
from tests.attribution.networks import model_of, photographs, scores_of, tiny


@pytest.mark.parametrize("backbone", ["tiny", "vgg16", "densenet121"])
def test_fullgrad_shares_add_up_to_the_score(backbone):
    model = tiny() if backbone == "tiny" else model_of(backbone)
    images = photographs(1, model.image_size)
    score = ClassScore(model, 1)
    with undisturbed(model.network):
        total = sum(float(share.sum()) for share in shares(score, images))
    expected = float(scores_of(model, images)[0])
    if backbone == "tiny":  # its dense layer's bias has no place on a map
        expected -= model.network.fc.bias[1].item()
    assert total == pytest.approx(expected, rel=1e-3, abs=1e-3)
