"""The index over runs as a page."""

import pandas as pd

from defectloc.reporting.index_page import render_index
from defectloc.reporting.summary import COUNTS, SCORES


def table(**changes):
    row = {"subset": "pill", "setting": "default", "runs": "pill/fold*-abc", "localization": "cam-1", "n_folds": 2}
    row |= {name: None for score in SCORES for name in (score, f"{score}_sd", f"{score}_n")} | dict.fromkeys(COUNTS, 1)
    row |= {"balanced_accuracy": 0.75, "balanced_accuracy_sd": 0.1, "balanced_accuracy_n": 2}
    row |= {"published_balanced_accuracy": 0.817}
    return pd.DataFrame([row | changes])


def test_folds_mean_and_published_figure_stand_in_one_row():
    values = {("pill", "pill/fold*-abc", "cam-1", fold): value for fold, value in ((0, 0.65), (2, 0.85))}
    links = {("pill", "pill/fold*-abc", "cam-1", 2): "pill/fold2-abc/report.html"}
    page = render_index(table(), ["a note"], values, links)
    for text in ("fold 0", "fold 2", "0.650", "0.850", "0.750 ± 0.100", "0.817", "a note", "1 of 2"):
        assert text in page
    assert page.count("<a ") == 1
    assert 'href="pill/fold2-abc/report.html"' in page
    assert "fold 1" not in page


def test_names_are_escaped_and_what_was_not_measured_is_a_dash():
    row = table(subset="<script>x</script>", published_balanced_accuracy=float("nan"), balanced_accuracy=float("nan"))
    page = render_index(row, [], {("<script>x</script>", "pill/fold*-abc", "cam-1", 0): None}, {})
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    assert "published" not in page
    assert "–" in page


def test_what_most_settings_of_a_subset_share_is_grey():
    settings = ["vgg16, tiles 64", "vgg16, tiles none", "vgg16, tiles none", "resnet50, tiles none"]
    rows = [table(setting=setting, localization=str(n)) for n, setting in enumerate(settings)]
    alone = table(subset="screw", setting="vgg16, tiles 9", localization="9")
    page = render_index(pd.concat([*rows, alone], ignore_index=True), [], {}, {})
    for part, n_grey in (("vgg16", 3), ("tiles none", 3), ("tiles 64", 0), ("resnet50", 0), ("tiles 9", 0)):
        assert page.count(f'<span class="muted">{part}</span>') == n_grey
    assert "resnet50, <span" in page
