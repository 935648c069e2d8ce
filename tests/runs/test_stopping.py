"""A stop that is asked for."""

import signal
import threading

import pytest

from defectloc.runs.stopping import stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number):
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signal() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.wait(5)
        assert signal.getsignal(signal.SIGINT) is before
    with stop_on_signal() as stop:
        assert not stop.is_set()
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_installs_nothing():
    found = []

    def work() -> None:
        with stop_on_signal() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
