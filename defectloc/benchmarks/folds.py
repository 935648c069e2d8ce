"""Whole folds and thresholds, as `train` does them, beside what the other arms would take for them."""

import contextlib
import functools
import io
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from defectloc import config
from defectloc.benchmarks.arms import Costs
from defectloc.benchmarks.machine import seconds
from defectloc.benchmarks.passes import counted_passes
from defectloc.checks import check_localization
from defectloc.config import (
    BenchmarkSettings,
    DecisionConfig,
    LocalizationConfig,
    MapKind,
    MapThreshold,
    TrainingConfig,
    TrainSettings,
)
from defectloc.data import splits
from defectloc.errors import DefectlocError
from defectloc.reporting import speed as tables
from defectloc.runs import training
from defectloc.runs.directory import Run
from defectloc.runs.localizing import Localization, post_process
from defectloc.runs.preparing import prepare

N_THRESHOLDS = 9


class Benchmark:
    """One comparison on one data set at squares of `side` pixels; `parts` gathers the figures as they are measured."""

    def __init__(self, settings: BenchmarkSettings, work: Path) -> None:
        what, self.side = settings.benchmark, settings.data.image_size
        data = replace(settings.data, image_size=squares(self.side))
        if what.limit is not None:
            data = replace(data, limit=what.limit)
        never = replace(settings.training, epochs=what.epochs, target_train_accuracy=1.1)
        self.settings = replace(TrainSettings.of(settings), data=data, training=never, outputs=str(work))
        self.what, self.work = what, work
        self.fold = prepare(self.settings)
        self.has_bank = self._has_bank()
        localization, decision = settings.localization, settings.decision
        if self.has_bank:
            # As `train` has it where nothing is typed.
            localization, decision = LocalizationConfig(), DecisionConfig()
            check_localization(localization, decision)
        self.whole_train = replace(
            self.settings,
            training=settings.training,
            # Of its own, so that it finds nothing done.
            outputs=str(work / "train"),
            localization=localization,
            decision=decision,
        )
        self.n = {part: len(self.fold.rows(part)) for part in (splits.TRAIN, splits.VALIDATION, splits.TEST)}
        self.n_folds = min(self.what.folds, settings.n_folds if data.split == "kfold" else 1)
        self.steps = math.ceil(self.n[splits.TRAIN] / settings.training.batch_size)
        self.parts: list[dict[str, Any]] = []

    def _has_bank(self) -> bool:
        # Said at once, since what cannot be measured would otherwise end the benchmark after half an hour.
        localization = replace(self.settings.localization, map=MapKind.fusion)
        try:
            prepare(replace(self.settings, localization=localization))
        except DefectlocError as error:
            print(f"note: the maps' costs are not measured: {error}", file=sys.stderr)
            return False
        return True

    def note(self, part: str, figure: str, value: float, unit: str, basis: str = tables.MEASURED) -> None:
        """Keep a figure."""
        self.parts.append({"part": part, "figure": figure, "value": float(value), "unit": unit, "basis": basis})

    def say(self, what: str) -> None:
        """Say what comes next, since it may take minutes."""
        print(f"measuring: {what}", file=sys.stderr, flush=True)

    def stored(self) -> float:
        """Give the bytes that the store holds, for each image of the data set."""
        files = (self.work / ".features").rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file()) / len(self.fold.catalog)

    def fitted(self, **changes: Any) -> tuple[dict[str, Any], Run, float]:
        """Fit a fold as `train` does; gives metrics, run, and the seconds of fit and prediction."""
        with contextlib.redirect_stdout(io.StringIO()):
            metrics, finished = training.run(replace(self.settings, **changes))
        return metrics, finished, metrics["seconds"]["fit"] + metrics["seconds"]["predict"]


def squares(side: int) -> list[int]:
    """Give the `data.image_size` by which photographs of any aspect are squares, as in the other arms."""
    return [side, side]


def compare_folds(bench: Benchmark, costs: Costs) -> pd.DataFrame:
    """Measure fits from the store, and set what the other arms would take beside them."""
    epochs, n = bench.what.epochs, bench.n
    case = epochs * bench.steps * costs.case_step + n[splits.TEST] * costs.case_predict
    held_out = epochs * n[splits.VALIDATION] + n[splits.VALIDATION] + n[splits.TEST]
    stream = epochs * bench.steps * costs.stream_step + held_out * costs.stream_predict
    bench.say(f"one fold of {epochs} epochs from the store, first extraction included")
    metrics, finished, once = bench.fitted()
    extraction = metrics["seconds"]["features"]
    bench.note("store", "first extraction, all images", extraction, "s")
    bare = len(bench.fold.catalog) * costs.trunk_bare
    bench.note("store", "first extraction / bare forward pass", extraction / bare, "", "bare one from a few batches")
    bench.note("store", "on disk, per image", bench.stored(), "bytes")
    rows = [_row(f"one fold, {epochs} epochs", case, stream, extraction + once, _accuracy([metrics]))]
    count = bench.n_folds
    others = (count * case, count * stream)
    basis = f"{count} times the measured fold"
    rows.append(_row(f"{count} folds, {epochs} epochs", *others, extraction + count * once, None, basis))
    fast: Any = OmegaConf.merge(
        OmegaConf.structured(TrainingConfig), OmegaConf.load(config.directory() / "training" / "fast.yaml")
    )
    results, total = [], extraction
    with counted_passes() as passes:
        for number in range(count):
            bench.say(f"fold {number} by training=fast")
            result, _, spent = bench.fitted(fold=number, training=OmegaConf.to_object(fast))
            results.append(result)
            total += spent + result["seconds"]["features"]
    with counted_passes() as of_seed:
        again = bench.fitted(seed=1, training=replace(bench.settings.training, epochs=1))[2]
    rows.append(_row(f"{count} folds, training=fast", *others, total, _accuracy(results)))
    bench.note("store", f"images through the trunk for {count} folds once more", passes.images, "")
    bench.note("store", "images through the trunk for a second seed", of_seed.images, "")
    bench.note("store", "a second seed, one epoch", again, "s")
    rows += _thresholds(bench, finished, case, stream, costs)
    return tables.comparison(rows)


def _thresholds(bench: Benchmark, finished: Run, case: float, stream: float, costs: Costs) -> list[dict[str, Any]]:
    bench.say(f"{N_THRESHOLDS} thresholds")
    spent = []
    with counted_passes() as passes:
        for threshold in np.linspace(0.15, 0.95, N_THRESHOLDS):
            localization = replace(
                bench.settings.localization, threshold=float(threshold), threshold_from=MapThreshold.fixed
            )
            spent.append(seconds(functools.partial(_post_process, bench, finished, localization)))
    bench.note("thresholds", "each further one, median", float(np.median(spent)), "s")
    bench.note("thresholds", "the slowest", max(spent), "s")
    bench.note("thresholds", "images through the trunk", passes.images, "")
    n_test, total = bench.n[splits.TEST], sum(spent)
    return [
        _row(f"{N_THRESHOLDS} thresholds, the others fit for each", N_THRESHOLDS * case, N_THRESHOLDS * stream, total),
        _row(
            f"{N_THRESHOLDS} thresholds, the others predict for each",
            N_THRESHOLDS * n_test * costs.case_predict,
            N_THRESHOLDS * n_test * costs.stream_predict,
            total,
        ),
    ]


def _post_process(bench: Benchmark, finished: Run, localization: LocalizationConfig) -> None:
    post_process(
        Localization(finished, localization, bench.settings.decision, ignore_mask=bench.settings.data.ignore_mask)
    )


def _row(
    task: str, case: float, stream: float, stored: float, accuracy: str | None = None, basis: str = tables.MEASURED
) -> dict[str, Any]:
    row = {"task": task, "case_study": case, "streaming": stream, "stored": stored}
    return row | {"balanced_accuracy": accuracy, "basis": basis}


def _accuracy(results: list[dict[str, Any]]) -> str:
    values = [result["balanced_accuracy"] for result in results if result["balanced_accuracy"] is not None]
    if not values:
        return ""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
