"""Reports as HTML pages: of one run, or an index over all."""

from pathlib import Path

from defectloc.config import ReportSettings
from defectloc.errors import DefectlocError
from defectloc.files import lock
from defectloc.runs.directory import LOCK, Run
from defectloc.runs.reports.index import write_index
from defectloc.runs.reports.one_run import write_report


def run(settings: ReportSettings) -> Path:
    """Write the report of a run, or without one the index of all runs; returns the page's path."""
    if settings.run is None:
        if settings.root is not None:
            raise DefectlocError("root belongs to the report of one run; give run=DIR as well.")
        path = write_index(Path(settings.outputs).expanduser())
    else:
        finished = Run.open(settings.run)
        root = finished.data_root(settings.root)
        with lock(finished.folder / LOCK, f"the same run ({finished.folder})"):
            path = write_report(finished, root)
    print(f"report: {path}")
    return path
