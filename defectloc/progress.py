"""What takes long: a progress bar on a terminal; elsewhere, as in a log file, one line where it begins."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} images/s" if speed else "")


_last_said: list[str] = []


def say_begun(stage: str) -> None:
    """Print a line on standard error, unless that is a terminal; what repeats itself is said once."""
    if not sys.stderr.isatty() and _last_said != [stage]:
        _last_said[:] = [stage]
        print(stage, file=sys.stderr, flush=True)


@contextlib.contextmanager
def images_bar(description: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a bar over `total` images (None: unknown) with rate and time left; give a function that advances it by n.

    `unit` names them where they are tiles of images.
    """
    if total:
        say_begun(f"{description}: {total} {unit.removesuffix('s') if total == 1 else unit}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(description, total=total)
        yield lambda n: bar.advance(task, n)
