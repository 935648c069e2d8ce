"""The stages of a first `train` add up to its time."""

import pytest

from defectloc.benchmarks.stages import by_stage


def test_stages_come_in_order_and_sum_to_the_whole():
    stages = by_stage({"fit": 3.0, "features": 2.0, "evaluate": 0.5}, figures=1.0, whole=7.0)
    assert list(stages) == ["features", "fit", "evaluate", "figures", "rest"]
    assert stages["rest"] == pytest.approx(0.5)
    assert sum(stages.values()) == pytest.approx(7.0)
