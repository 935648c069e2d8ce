"""A function in a process of its own, and the most memory that this process held."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


def in_new_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """Call a function of a module in a new process; gives its result and the process's peak memory in bytes.

    Mapped files count where they lie in memory.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, arguments))


def _measured(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, int]:
    return function(*arguments), peak_bytes()


def peak_bytes() -> int:
    """Give the most memory that this process held so far."""
    if STATUS.is_file():
        # On Linux `ru_maxrss` begins with the memory of the process that started this one.
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    # Kilobytes, but on macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
