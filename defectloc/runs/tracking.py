"""Finished runs told to an experiment tracker, each once."""

from pathlib import Path

from defectloc.config import TrackSettings
from defectloc.errors import DefectlocError
from defectloc.progress import images_bar
from defectloc.runs.summarizing import collect
from defectloc.runs.tracked import tracked
from defectloc.runs.trackers import tracker_of


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
