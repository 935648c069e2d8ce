"""The shortcut check of a finished run, beside its class maps."""

import numpy as np

from defectloc.runs.directory import Run
from defectloc.runs.tables import read_shortcut_table


def test_each_held_out_image_has_a_row(fused):
    run = Run.open(fused)
    table = read_shortcut_table(run.product("fusion"))
    assert list(table["path"]) == list(run.images()["path"])
    for name in ("retained_area", "retained_evidence"):
        assert table[name].between(0, 1).all()


def test_where_all_cells_are_anomalous_the_log_odds_are_retained(fused):
    run = Run.open(fused)
    table = read_shortcut_table(run.product("fusion")).merge(run.images(), on="path")
    whole = table[table["retained_area"] == 1]
    np.testing.assert_allclose(whole["retained_log_odds"], whole["log_odds"], atol=1e-4)
