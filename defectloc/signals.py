"""Signals that ask for a stop: of a scheduler, obeyed at the end of an epoch, or between two pieces of work."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# EX_TEMPFAIL of sysexits.h: nothing is wrong, and the same command goes on where this one stopped.
REQUEUE = 75
# SIGUSR1 and SIGUSR2 are what batch systems are told to send ahead of a time limit; Windows has neither.
PREEMPTING = [
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if name == "SIGTERM" or hasattr(signal, name)
]
# Ctrl-C, and what a service manager sends.
STOPPING = [signal.SIGINT, signal.SIGTERM]
Handler = Callable[[int, FrameType | None], None]


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
    if not _receives_signals():
        yield
        return
    outer, _stop.listening, _stop.asked_by = _stop.listening, True, None
    try:
        with _handled(PREEMPTING, _obey):
            yield
    finally:
        _stop.listening = outer


def listen() -> None:
    """Take the signals again from a library that has put its own handlers in place; only within `preemptible`."""
    if _stop.listening and _receives_signals():
        for number in PREEMPTING:
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


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set instead of ending the process; a second one ends it at once.

    In another thread than the first, which alone receives signals, nothing sets it.
    """
    stop = threading.Event()
    with _handled(STOPPING, lambda *_: stop.set(), once=True):
        yield stop


@contextmanager
def _handled(numbers: Sequence[int], handler: Handler, once: bool = False) -> Iterator[None]:
    """Give signals to a handler, and put those of before back at the end, or at the first signal where it is `once`.

    In another thread than the first nothing is changed.
    """
    if not _receives_signals():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, former in before.items():
            # One that was not installed by Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if former is None else former)

    def handle_once(number: int, frame: FrameType | None) -> None:
        restore()
        handler(number, frame)

    for number in numbers:
        signal.signal(number, handle_once if once else handler)
    try:
        yield
    finally:
        restore()


def _receives_signals() -> bool:
    return threading.current_thread() is threading.main_thread()
