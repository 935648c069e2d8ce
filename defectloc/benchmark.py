"""`python -m defectloc.benchmark`: speed, side by side, in one process."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table

from defectloc import cli, runs
from defectloc.config import BenchmarkSettings
from defectloc.data import splits
from defectloc.figures.speed import draw_speed
from defectloc.files import make_directory, write_text
from defectloc.reporting import speed as tables
from defectloc.reporting.summary import markdown

if TYPE_CHECKING:
    from defectloc.speed import folds


def run(settings: BenchmarkSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure, and write table, CSV and figure; returns the comparison and the single figures."""
    from defectloc.speed import arms, figures, folds, machine

    output = Path(settings.output or f"{settings.outputs}/benchmark").expanduser()
    with _work(output) as work:
        bench = folds.Benchmark(settings, work)
        what, fold = bench.what, bench.fold
        bench.say("the machine's convolution peak")
        peak = machine.convolution_peak(fold.device, what.steps)
        setting = arms.Setting(bench.settings, fold.root, fold.device, fold.precision, work / "arms")
        costs = {}
        for size in what.image_sizes:
            bench.say(f"{what.steps} steps of each arm at {size} px")
            costs[size] = arms.measure(setting, fold.rows(splits.TRAIN), size, what.steps)
        usual = costs.get(settings.data.image_size) or arms.measure(
            setting, fold.rows(splits.TRAIN), settings.data.image_size, what.steps
        )
        figures.note_shares_of_peak(bench, usual, peak)
        comparison = folds.compare_folds(bench, usual)
        sizes = figures.note_numbers_of_images(bench, setting, usual)
        figures.note_image_sizes(bench, costs)
        figures.note_prediction(bench)
        if bench.remembers:
            figures.note_maps(bench)
        figures.note_memory(bench)
        figures.note_equivalence(bench, work / "equivalence")
    parts = pd.DataFrame(bench.parts)
    _write(bench, output, comparison, parts, sizes)
    return comparison, parts


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
    bench: "folds.Benchmark", output: Path, comparison: pd.DataFrame, parts: pd.DataFrame, sizes: pd.DataFrame
) -> None:
    from torch import __version__ as torch_version

    n, size = len(bench.fold.catalog), bench.settings.data.image_size
    title = f"{bench.settings.subset}, {n} images, {size} px, {bench.fold.device}, torch {torch_version}"
    readable = [tables.shown_comparison(comparison), tables.shown_parts(parts)]
    steps = f"~ extrapolated; the arms of others from {bench.what.steps} measured steps of a fit"
    runs.write_csv(output / "benchmark.csv", comparison)
    runs.write_csv(output / "parts.csv", parts)
    text = "\n".join([f"{title}\n", markdown(readable[0]), f"{steps}\n", markdown(readable[1])])
    write_text(output / "benchmark.md", text)
    draw_speed(comparison, sizes, title, output / "benchmark.png")
    for caption, table in zip((title, steps), readable, strict=True):
        shown = Table(title=caption, title_justify="left")
        for name in table.columns:
            shown.add_column(name, justify="left" if name in ("task", "part", "figure", "basis") else "right")
        for row in table.itertuples(index=False):
            shown.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 160).print(shown)
    print(f"tables: {output / 'benchmark.csv'}, {output / 'parts.csv'}, {output / 'benchmark.md'}")
    print(f"figure: {output / 'benchmark.png'}")


def main() -> None:
    """Command line."""
    cli.run_command("benchmark", run)


if __name__ == "__main__":
    main()
