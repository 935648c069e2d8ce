"""What the tests of explanations share."""

import pytest

from tests.attribution.networks import CUTS, model_of


@pytest.fixture(scope="module", params=CUTS)
def model(request):
    """Each backbone with random weights; a module's tests share it."""
    return model_of(request.param)
