"""An index over the runs below a folder: `report.html` there."""

from pathlib import Path
from urllib.parse import quote

import pandas as pd

from defectloc.errors import DefectlocError
from defectloc.files import write_text
from defectloc.reporting.index_page import Cell, render_index
from defectloc.reporting.page import key_of
from defectloc.reporting.summary import footnotes, summary
from defectloc.runs.reports.one_run import REPORT, report_key
from defectloc.runs.summarizing import collect, experiments


def write_index(outputs: Path) -> Path:
    """Write the index of all runs; raises DefectlocError where there is none."""
    results = collect(outputs)
    if not results:
        raise DefectlocError(f"outputs={outputs} holds no finished run; start with 'defectloc train'.")
    table = summary(results, experiments())
    values: dict[Cell, float | None] = {}
    links: dict[Cell, str] = {}
    for result in results:
        subset, localization, fold = result.metrics["subset"], result.metrics["localization"], result.metrics["fold"]
        place = (subset, f"{subset}/fold*-{result.fingerprint}", localization, fold)
        value = pd.to_numeric(result.metrics.get("balanced_accuracy"), errors="coerce")
        values[place] = None if pd.isna(value) else float(value)
        report = result.folder.parent.parent / REPORT
        if key_of(report) == report_key(localization):
            links[place] = quote(report.relative_to(outputs).as_posix())
    path = outputs / REPORT
    write_text(path, render_index(table, footnotes(table, results), values, links))
    return path
