"""All measurements in their order, and the tables and the figure of them."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from defectloc.benchmarks import arms, machine, parts, stages
from defectloc.benchmarks.folds import Benchmark, compare_folds
from defectloc.config import BenchmarkSettings
from defectloc.data import splits
from defectloc.data.images import sides_of
from defectloc.errors import DefectlocError
from defectloc.figures.speed import draw_speed
from defectloc.files import make_directory, write_text
from defectloc.reporting import speed as tables
from defectloc.reporting.summary import markdown
from defectloc.runs.tables import write_csv


def run(settings: BenchmarkSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure, and write table, CSV and figure; returns the comparison and the single figures."""
    side, _ = sides = sides_of(settings.data.image_size)
    if len(set(sides)) > 1:
        raise DefectlocError(
            "data.image_size=[height,width] is not for a benchmark, which compares squares; give one side."
        )
    settings = replace(settings, data=replace(settings.data, image_size=side))
    output = Path(settings.output or f"{settings.outputs}/benchmark").expanduser()
    with _work(output) as work:
        bench = Benchmark(settings, work)
        what, fold = bench.what, bench.fold
        of_stages = stages.note_first_train(bench)
        bench.say("the machine's convolution peak")
        peak = machine.convolution_peak(fold.device, what.steps)
        setting = arms.Setting(bench.settings, fold.root, fold.device, fold.precision, work / "arms")
        costs = {}
        for size in dict.fromkeys([bench.side, *what.image_sizes]):
            bench.say(f"{what.steps} steps of each arm at {size} px")
            costs[size] = arms.measure(setting, fold.rows(splits.TRAIN), size, what.steps)
        usual = costs[bench.side]
        parts.note_shares_of_peak(bench, usual, peak)
        comparison = compare_folds(bench, usual)
        parts.note_image_sizes(bench, costs)
        parts.note_prediction(bench)
        if bench.has_bank:
            parts.note_maps(bench)
        parts.note_memory(bench)
        parts.note_equivalence(bench, work / "equivalence")
    single = pd.DataFrame(bench.parts)
    _write(bench, output, comparison, single, of_stages)
    return comparison, single


@contextlib.contextmanager
def _work(output: Path) -> Iterator[Path]:
    """Give an empty folder, so that nothing is found finished; it goes at the end."""
    work = output / ".work"
    shutil.rmtree(work, ignore_errors=True)
    make_directory(work)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(
    bench: Benchmark, output: Path, comparison: pd.DataFrame, single: pd.DataFrame, of_stages: pd.DataFrame
) -> None:
    n, size = len(bench.fold.catalog), bench.side
    title = f"{bench.settings.subset}, {n} images, {size} px, {bench.fold.device}, torch {torch.__version__}"
    readable = [tables.shown_comparison(comparison), tables.shown_parts(single)]
    steps = f"~ extrapolated; without stored features from {bench.what.steps} measured steps of a fit"
    write_csv(output / "benchmark.csv", comparison)
    write_csv(output / "parts.csv", single)
    text = "\n".join([f"{title}\n", markdown(readable[0]), f"{steps}\n", markdown(readable[1])])
    write_text(output / "benchmark.md", text)
    draw_speed(comparison, of_stages, title, output / "benchmark.png")
    for caption, table in zip((title, steps), readable, strict=True):
        shown = Table(title=caption, title_justify="left")
        for name in table.columns:
            shown.add_column(name, justify="left" if name in ("task", "part", "figure", "basis") else "right")
        for row in table.itertuples(index=False):
            shown.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 160).print(shown)
    print(f"tables: {output / 'benchmark.csv'}, {output / 'parts.csv'}, {output / 'benchmark.md'}")
    print(f"figure: {output / 'benchmark.png'}")
