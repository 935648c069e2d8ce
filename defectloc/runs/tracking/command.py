"""Finished runs logged to an experiment tracker, each once."""

from collections.abc import Iterable
from pathlib import Path

from defectloc.config import LoggerConfig, TrackSettings
from defectloc.errors import DefectlocError
from defectloc.progress import images_bar
from defectloc.runs.summarizing import collect
from defectloc.runs.tracking.content import tracked, tracked_run
from defectloc.runs.tracking.trackers import tracker_of


def run(settings: TrackSettings) -> tuple[int, int]:
    """Tell a tracker of every localization of every run below `outputs`; returns how many it had not and had before."""
    outputs = Path(settings.outputs).expanduser()
    tracker = tracker_of(settings.logger, outputs)
    if tracker is None:
        raise DefectlocError("logger=none tracks nothing; choose one of csv, tensorboard, mlflow.")
    results = collect(outputs)
    if not results:
        raise DefectlocError(f"outputs={outputs} holds no finished run; start with 'defectloc train'.")
    n_new = 0
    with images_bar("runs", len(results)) as advance:
        for result in results:
            n_new += tracker.add(tracked(result))
            advance(1)
    print(f"logged: {n_new} runs, {len(results) - n_new} before: {tracker.place}")
    return n_new, len(results) - n_new


def add_finished(logger: LoggerConfig, outputs: Path, localizations: Iterable[Path]) -> int:
    """Tell a tracker of localizations by their folders; returns how many it had not. Says so where it had not all."""
    tracker = tracker_of(logger, outputs)
    assert tracker is not None
    n_new = sum(tracker.add(tracked_run(folder)) for folder in localizations)
    if n_new:
        print(f"logged: {n_new} runs that were finished before: {tracker.place}")
    return n_new
