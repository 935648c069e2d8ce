"""What is logged to an experiment tracker of one localization of one run, from the files of the run directory."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectloc.errors import DefectlocError
from defectloc.files import digest, digest_of
from defectloc.reporting.labels import IGNORED
from defectloc.reporting.page import key_of
from defectloc.reporting.summary import Result
from defectloc.runs.directory import METRICS
from defectloc.runs.reports.one_run import REPORT, report_key
from defectloc.runs.summarizing import results_of
from defectloc.runs.tables import read_history

# Settings that name files and folders of the machine.
PATHS = ("data.good", "data.defective", "data.table", "model.weights")


@dataclass(frozen=True)
class Tracked:
    """One run of a tracker: what it was made with, its scores by epoch and at the end, its files by name."""

    tags: dict[str, str]
    parameters: dict[str, Any]
    history: list[tuple[int, dict[str, float]]]
    scores: dict[str, float]
    artifacts: dict[str, Path]

    @property
    def name(self) -> str:
        """Name it for people."""
        return f"{self.tags['subset']} fold {self.tags['fold']} {self.tags['localization']}"

    @property
    def identity(self) -> str:
        """Identify it wherever its files lie, by hexadecimal digits."""
        return digest_of(self.tags)[:32]

    @property
    def place(self) -> str:
        """Name its folder where runs lie in files."""
        return f"{self.tags['subset']}/fold{self.tags['fold']}-{self.tags['fingerprint']}/{self.tags['localization']}"

    @property
    def numbers(self) -> str:
        """Identify its parameters and scores, by hexadecimal digits."""
        return digest_of([self.parameters, self.history, self.scores])[:32]

    def contents(self) -> dict[str, str]:
        """Give the SHA-256 of its files by name."""
        return {name: digest(path) for name, path in self.artifacts.items()}


def tracked_run(localization: Path) -> Tracked:
    """Read one localization of a run by its folder; raises DefectlocError where it is not whole."""
    for result in results_of(localization.parent.parent):
        if result.folder.name == localization.name:
            return tracked(result)
    raise DefectlocError(f"{localization} is not whole; start the same 'defectloc train' again.")


def tracked(result: Result) -> Tracked:
    """Read what is logged of a result; raises DefectlocError where its files cannot be read."""
    run, metrics = result.folder.parent.parent, result.metrics
    left_out = IGNORED - {"experiment"}
    known = {key: value for key, value in result.settings.items() if value is not None and key not in left_out}
    known |= {key: Path(known[key]).name for key in PATHS if key in known}
    return Tracked(
        tags={
            "subset": metrics["subset"],
            "fold": str(metrics["fold"]),
            "fingerprint": result.fingerprint,
            "localization": metrics["localization"],
        },
        parameters=known,
        history=_history(run),
        scores=_numbers({key: value for key, value in metrics.items() if key != "fold"}),
        artifacts=_artifacts(run, result.folder),
    )


def _history(run: Path) -> list[tuple[int, dict[str, float]]]:
    by_epoch = read_history(run).set_index("epoch")
    return [(int(epoch), row.dropna().to_dict()) for epoch, row in by_epoch.iterrows()]


def _numbers(content: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Give the numbers of nested scores on one level, such as `confusion.tp`; what is not known is left out."""
    found: dict[str, float] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[f"{prefix}{key}"] = float(value)
    return found


def _artifacts(run: Path, localization: Path) -> dict[str, Path]:
    """Find the figures, the report where it shows this localization, and the scores."""
    found = {METRICS: localization / METRICS}
    if key_of(run / REPORT) == report_key(localization.name):
        found[REPORT] = run / REPORT
    figures = [*sorted((localization / "figures").glob("*.png")), *sorted((run / "figures").glob("*.png"))]
    return found | {f"figures/{path.name}": path for path in figures}
