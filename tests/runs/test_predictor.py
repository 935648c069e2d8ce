"""A run's predictor: what it computes faster must not change what it says."""

import numpy as np
import pandas as pd
import pytest

from defectloc.model import winograd
from defectloc.model.winograd import WinogradConv2d
from defectloc.runs.directory import Run
from defectloc.runs.predictor import Predictor
from tests.conftest import MEMORY


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_winograds_convolutions_change_no_verdict_and_no_box(fused, synthetic, monkeypatch, precision):
    run = Run.open(fused)
    run.record["precision"] = precision
    # The network of the tests is narrow.
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 8)
    quick = Predictor(run)
    assert any(isinstance(each, WinogradConv2d) for each in quick._network.modules()) == (precision == "float32")
    assert not any(isinstance(each, WinogradConv2d) for each in quick.parts().classifier.modules())
    # Of the trunk as well.
    monkeypatch.setattr(winograd, "is_suited", lambda module: False)
    plain = Predictor(run)
    assert not any(isinstance(each, WinogradConv2d) for each in plain._trunk.stages.modules())
    photographs = sorted(synthetic.glob("pill/test/*/*.png"))
    for found, expected in zip(quick.predict(photographs), plain.predict(photographs), strict=True):
        assert found.verdict == expected.verdict
        np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)
        # Random weights have channels that hardly vary; in standard deviations of theirs, rounding is large.
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=0.05)
        pd.testing.assert_frame_equal(found.boxes, expected.boxes, rtol=1e-3)


def test_a_train_that_ends_while_a_run_is_loaded_changes_nothing(fused, command, monkeypatch):
    before = (fused / "metrics.json").read_bytes()
    assert command("train", *MEMORY, "localization.threshold=0.5").code == 0
    after = (fused / "metrics.json").read_bytes()
    assert after != before
    (fused / "metrics.json").write_bytes(before)
    expected = Predictor(Run.open(fused))
    original = Run.localization_config

    def read_while_train_ends(run):
        found = original(run)
        (fused / "metrics.json").write_bytes(after)
        return found

    monkeypatch.setattr(Run, "localization_config", read_while_train_ends)
    found = Predictor(Run.open(fused))
    assert (fused / "metrics.json").read_bytes() == after
    for name in ("kind", "identity", "decision", "localizer", "scale"):
        assert getattr(found, name) == getattr(expected, name)
