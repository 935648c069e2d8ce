"""Two folds written by hand, each of which tests half of the images, and their localizations."""

from collections.abc import Sequence
from pathlib import Path

from defectloc.files import write_json
from defectloc.runs.directory import METRICS, Run
from tests.handmade import cells, post_process, write_run

QUOTES = "bad/<script>alert(\"1\")<script> 'q'&.png"
LONG = f"bad/{'l' * 196}.png"
FOREIGN = "bad/ß語 #1%20+?.png"
BAD = [QUOTES, LONG, FOREIGN, "bad/missed.png"]
GOOD = ["good/0.png", "good/alarm.png"]
PATHS = sorted(BAD + GOOD)
# Where the map of the fold that tests an image is hot: boxes are twice that, in pixels of 10 x 10.
HOT = {QUOTES: (0, 0), LONG: (1, 2), FOREIGN: (4, 4), "good/alarm.png": (3, 1)}


def box_of(path: str) -> list[tuple[int, int, int, int]]:
    """The box that is expected of an image's map, none where it is flat."""
    return [(2 * x, 2 * y, 2 * x + 2, 2 * y + 2) for y, x in [HOT[path]]] if path in HOT else []


def write_folds(folder: Path, fingerprint: str = "abc", n_folds: int = 2, n_masks: Sequence[int] = (0, 0)) -> list[Run]:
    """Write folds that test every second image; where an image is not tested, its map is hot elsewhere.

    `n_masks`: the number of masks that label patches of each fold.
    """
    runs = []
    for fold in range(n_folds):
        images = [
            {"path": path, "split": split, "label": int(path in BAD), "cells": cells({place: height}, cold=-2.0)}
            for number, path in enumerate(PATHS)
            for split, place, height in [
                ("test", HOT.get(path, (0, 0)), 90.0 if path in HOT else -2.0)
                if number % 2 == fold
                else ("validation", (2, 2), 50.0 if path in BAD else -1.0)
            ]
        ]
        made_from = {"supervision": {"masks": n_masks[fold]}} if n_masks[fold] else {}
        run = write_run(folder, images, fold=fold, fingerprint=fingerprint, made_from=made_from)
        localize(run)
        runs.append(run)
    return runs


def localize(run: Run, **settings: object) -> str:
    """Localise a run and make that what `train` was last asked for; gives the localization's name."""
    metrics = post_process(run, {"normalization": "none", "threshold": 30.0, **settings})
    write_json(run.folder / METRICS, metrics)
    return metrics["localization"]
