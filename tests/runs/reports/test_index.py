"""The index over runs: folds beside one another, with links to reports of the same setting."""

import pytest

from defectloc.reporting.page import key_of
from defectloc.runs.reports.one_run import report_key
from tests.runs.test_summarizing import write_result


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    for fold in (0, 1):
        write_result(folder, "cam-0.3", fold=fold, threshold=0.3)
    write_result(folder, "cam-1", subset="<b>pill")
    return folder


def test_index_names_all_runs_and_links_to_reports_of_the_same_setting(outputs, command):
    first, second = (outputs / "part" / f"fold{fold}-abc" / "report.html" for fold in (0, 1))
    first.write_text(f'<meta name="defectloc-report" content="{report_key("cam-0.3")}">')
    second.write_text(f'<meta name="defectloc-report" content="{report_key("cam-0.9")}">')
    done = command("report", f"outputs={outputs}")
    assert done.code == 0, done.err
    assert done.out.strip() == f"report: {outputs / 'report.html'}"
    page = (outputs / "report.html").read_text(encoding="utf-8")
    assert 'href="part/fold0-abc/report.html"' in page
    assert "fold1-abc/report.html" not in page
    assert "0.625 ± 0.177" in page
    assert "&lt;b&gt;pill" in page
    assert "<b>pill" not in page
    assert key_of(outputs / "report.html") == "index"


def test_no_run_and_keys_without_a_run_are_refused(tmp_path, command):
    assert "holds no finished run" in command("report", f"outputs={tmp_path}").sentence
    assert "give run=DIR" in command("report", f"root={tmp_path}").sentence
    assert "does not exist" in command("report", "run=nowhere").sentence
