"""SHAP's values add up."""

from dataclasses import replace

import pytest

from defectloc.attribution.methods import attribute
from tests.attribution.networks import FEW, model_of, photographs, scores_of


@pytest.mark.parametrize("masker", ["blur", "inpaint"])
def test_shap_values_add_up_to_the_difference_of_scores(masker):
    pytest.importorskip("shap")
    model = model_of("densenet121")
    image = photographs().round()
    few = replace(FEW, shap_masker=masker, batch_size=4)
    found = attribute("shap-partition", model, image, [1], few, [0])
    total = float(found.maps.sum()) + float(found.parts[0]["base"][0])
    assert total == pytest.approx(float(scores_of(model, image)[0]), rel=1e-4, abs=1e-4)
    assert abs(found.maps.sum()) > 1e-3
    assert found.evaluations <= few.shap_evaluations + few.batch_size
