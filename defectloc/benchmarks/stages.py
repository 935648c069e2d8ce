"""A whole first `train`, stage by stage."""

import contextlib
import io
import time
from dataclasses import replace
from typing import Any

import pandas as pd

from defectloc.benchmarks.folds import Benchmark
from defectloc.benchmarks.processes import in_new_process
from defectloc.config import TrainSettings
from defectloc.runs import training
from defectloc.runs.localizing import Localization, draw

# In the order in which `train` goes through them; `rest` is reading, splitting, hashing, checks and loading weights.
STAGES = ("features", "fit", "predict", "memory", "fusion", "localize", "evaluate", "figures", "rest")


def note_first_train(bench: Benchmark) -> pd.DataFrame:
    """Note seconds by stage and peak memory of a `train` that finds nothing done; returns `stage, seconds`."""
    bench.say("a first train in a process of its own, by stage")
    (seconds, epochs), peak = in_new_process(train_by_stage, bench.whole_train)
    basis = f"localization={bench.whole_train.localization.map}, {epochs} epochs"
    for stage, spent in seconds.items():
        bench.note("first train", stage, spent, "s", basis)
    bench.note("first train", "whole", sum(seconds.values()), "s", basis)
    bench.note("first train", "peak memory", peak / 1e6, "MB", basis)
    return pd.DataFrame({"stage": list(seconds), "seconds": list(seconds.values())})


def train_by_stage(settings: TrainSettings) -> tuple[dict[str, float], int]:
    """Train and draw, starting from nothing; gives the seconds of the stages there are, and the number of epochs."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        metrics, finished = training.run(replace(settings, figures=False))
    scored = time.perf_counter()
    setting = Localization(finished, settings.localization, settings.decision, ignore_mask=settings.data.ignore_mask)
    draw(setting, metrics)
    ended = time.perf_counter()
    return by_stage(metrics["seconds"], ended - scored, ended - started), metrics["epochs"]


def by_stage(seconds: dict[str, Any], figures: float, whole: float) -> dict[str, float]:
    """Order the stages of `metrics["seconds"]`, those of the figures added; what is missing to the whole is `rest`."""
    spent = {**seconds, "figures": figures}
    spent["rest"] = max(0.0, whole - sum(spent.values()))
    return {stage: float(spent[stage]) for stage in STAGES if stage in spent}
