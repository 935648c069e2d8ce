"""Right for the right reason, with the real weights: a planted light on every defective image, and none."""

import json
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

pytestmark = pytest.mark.slow

ARGUMENTS = ["data=synthetic", "fold=0", "device=cpu", "figures=false"]
WARNING = "judges by something other than the defect"


def test_a_shortcut_is_told_and_does_not_move_the_fused_decision(command):
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
    name = json.loads((folder / "metrics.json").read_text())["localization"]
    lit = pd.read_csv(folder / "localization" / name / "predictions.csv").query("split == 'test'")
    lit["path"] = lit["path"].str.removeprefix("pill_shortcut/")
    both = lit.merge(pd.read_csv("plain/predictions.csv"), on="path", suffixes=("", "_plain"))
    assert len(both) == len(lit)
    by_class = [balanced_accuracy_score(both["label"], both[f"log_odds{end}"] > 0) for end in ("", "_plain")]
    fused = [balanced_accuracy_score(both["label"], both[f"predicted{end}"]) for end in ("", "_plain")]
    assert by_class[0] > 0.9
    assert by_class[1] < 0.65
    assert fused[1] > fused[0] - 0.05
    assert fused[1] > 0.75
