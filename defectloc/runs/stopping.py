"""A stop that is asked for (Ctrl-C, or SIGTERM of a service manager) and obeyed between two pieces of work."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set instead of ending the process; a second one ends it at once.

    In another thread than the first, which alone receives signals, nothing sets it.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        _restore(before)

    for number in SIGNALS:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        _restore(before)


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        # One that was not installed by Python cannot be put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
