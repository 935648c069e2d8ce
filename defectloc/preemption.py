"""A stop that a scheduler asks for, by SIGTERM or by the signal before a time limit, obeyed at the end of an epoch."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# EX_TEMPFAIL of sysexits.h: nothing is wrong, and the same command goes on where this one stopped.
REQUEUE = 75
# SIGUSR1 and SIGUSR2 are what batch systems are told to send ahead of a time limit; Windows has neither.
SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if name == "SIGTERM" or hasattr(signal, name)
]


class Preempted(SystemExit):
    """Ends the process with the exit code 75, once what is half-written has been removed and the locks are free."""

    def __init__(self, name: str) -> None:
        """`name`: of the signal."""
        super().__init__(REQUEUE)
        self.signal_name = name

    def __reduce__(self) -> tuple[type["Preempted"], tuple[str]]:
        """Go from process to process with the name of the signal, which is not among the arguments of SystemExit."""
        return Preempted, (self.signal_name,)

    def __str__(self) -> str:
        """Say what to do."""
        return f"stopped by {self.signal_name}; start the same command again to go on."


class _Stop:
    """Signals reach a process, not an object, so there is one of it."""

    listening = False
    deferred = False
    asked_by: str | None = None


_stop = _Stop()


@contextmanager
def preemptible() -> Iterator[None]:
    """Raise `Preempted` in the main thread on the first signal, or within `at_epoch_end` on the second.

    In another thread than the first, which alone receives signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    outer, _stop.listening, _stop.asked_by = _stop.listening, True, None
    listen()
    try:
        yield
    finally:
        _stop.listening = outer
        for number, handler in before.items():
            # One that was not installed by Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def listen() -> None:
    """Take the signals again from a library that has put its own handlers in place; only within `preemptible`."""
    if _stop.listening and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _obey)


@contextmanager
def at_epoch_end() -> Iterator[None]:
    """Put a first signal off until `obey` is called or the block ends."""
    _stop.deferred = True
    try:
        yield
    finally:
        _stop.deferred = False
    obey()


def obey() -> None:
    """Raise `Preempted` if a signal has been put off."""
    if _stop.asked_by is not None:
        raise Preempted(_stop.asked_by)


def _obey(number: int, _: FrameType | None) -> None:
    name, first = signal.Signals(number).name, _stop.asked_by is None
    _stop.asked_by = name
    if not (_stop.deferred and first):
        raise Preempted(name)
    # A handler may interrupt a print, which cannot be entered twice.
    os.write(2, f"{name}: stopping at the end of this epoch\n".encode())
