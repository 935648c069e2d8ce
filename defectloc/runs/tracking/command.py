"""Finished runs logged to an experiment tracker, each once."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from defectloc.config import LoggerConfig, LoggerName, TrackSettings
from defectloc.errors import DefectlocError
from defectloc.progress import images_bar
from defectloc.runs.summarizing import collect
from defectloc.runs.tracking.content import tracked, tracked_run
from defectloc.runs.tracking.mlflow import MlflowTracker
from defectloc.runs.tracking.trackers import CsvTracker, TensorBoardTracker, Tracker

FOLDER = ".tracking"


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


def tracker_of(config: LoggerConfig, outputs: Path) -> Tracker | None:
    """Open the tracker of a configuration, None for none; raises DefectlocError where it cannot be used."""
    name, folder = config.name, outputs / FOLDER
    if name in (LoggerName.tensorboard, LoggerName.mlflow) and importlib.util.find_spec(str(name)) is None:
        raise DefectlocError(f"logger={name} needs the package {name}: pip install 'defectloc[{name}]'.")
    if config.uri is not None and name != LoggerName.mlflow:
        raise DefectlocError(f"logger.uri belongs to logger=mlflow, not to logger={name}.")
    if config.experiment != LoggerConfig.experiment and name != LoggerName.mlflow:
        raise DefectlocError(f"logger.experiment belongs to logger=mlflow, not to logger={name}.")
    if name == LoggerName.mlflow:
        return MlflowTracker(folder, config.uri, config.experiment)
    in_files = {LoggerName.csv: CsvTracker, LoggerName.tensorboard: TensorBoardTracker}
    return in_files[name](folder) if name in in_files else None
