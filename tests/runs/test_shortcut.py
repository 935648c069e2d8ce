"""Right for the right reason, with the real weights: a planted light on every defective image, and none."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from tests.conftest import last_localization

pytestmark = pytest.mark.slow

ARGUMENTS = ["data=synthetic", "fold=0", "device=cpu", "figures=false"]
WARNING = "the class network decides by a shortcut"


@pytest.fixture
def narrow() -> None:
    """Real weights need the real network."""


def test_a_shortcut_raises_the_warning_and_does_not_move_the_fused_decision(command):
    outcome = command("train", "subset=pill_shortcut", *ARGUMENTS)
    assert outcome.code == 0, outcome.err
    assert WARNING in outcome.err
    folder = next(Path("outputs").glob("pill_shortcut/fold0-*"))
    # The same parts photographed without the light; this also fits the clean subset.
    outcome = command("train", "subset=pill", *ARGUMENTS)
    assert outcome.code == 0, outcome.err
    assert WARNING not in outcome.err
    plain = next(Path("outputs/.synthetic").glob("*/pill"))
    arguments = (f"run={folder}", f"images={plain}", "output=plain", "overlays=false", "device=cpu")
    assert command("predict", *arguments).code == 0
    lit = pd.read_csv(last_localization(folder) / "predictions.csv").query("split == 'test'")
    lit["path"] = lit["path"].str.removeprefix("pill_shortcut/")
    both = lit.merge(pd.read_csv("plain/predictions.csv"), on="path", suffixes=("", "_plain"))
    assert len(both) == len(lit)
    by_class = [balanced_accuracy_score(both["label"], both[f"log_odds{end}"] > 0) for end in ("", "_plain")]
    fused = [balanced_accuracy_score(both["label"], both[f"predicted{end}"]) for end in ("", "_plain")]
    assert by_class[0] > 0.9
    assert by_class[1] < 0.65
    assert fused[1] > fused[0] - 0.05
    assert fused[1] > 0.75
