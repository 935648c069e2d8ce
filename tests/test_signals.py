"""Signals: a scheduler's, at once outside of an epoch and at its end within one; a stop that is asked for."""

import os
import pickle
import signal
import threading

import pytest

from defectloc import signals
from defectloc.signals import PREEMPTING, REQUEUE, Preempted, at_epoch_end, preemptible, stop_on_signal


def send(number: int) -> None:
    signal.raise_signal(number)


@pytest.mark.parametrize("number", PREEMPTING)
def test_signal_ends_with_the_code_for_another_start(number):
    before = signal.getsignal(number)
    with pytest.raises(Preempted, match=f"{signal.Signals(number).name}.*same command") as stopped, preemptible():
        send(number)
    assert stopped.value.code == REQUEUE == os.EX_TEMPFAIL
    assert signal.getsignal(number) is before


def test_signal_within_an_epoch_waits_for_its_end(capfd):
    done = []

    def fit():
        with preemptible(), at_epoch_end():
            send(signal.SIGTERM)
            done.append("rest of the epoch")
            signals.obey()
            done.append("next epoch")

    with pytest.raises(Preempted):
        fit()
    assert done == ["rest of the epoch"]
    assert "SIGTERM: stopping at the end of this epoch" in capfd.readouterr().err


def test_signal_in_the_last_epoch_is_obeyed_after_it():
    done = []

    def run():
        with preemptible():
            with at_epoch_end():
                send(signal.SIGTERM)
                done.append("rest of the epoch")
            done.append("what follows")

    with pytest.raises(Preempted):
        run()
    assert done == ["rest of the epoch"]


def test_second_signal_does_not_wait():
    done = []

    def fit():
        with preemptible(), at_epoch_end():
            send(signal.SIGUSR2)
            done.append("after the first")
            send(signal.SIGTERM)
            done.append("after the second")

    with pytest.raises(Preempted):
        fit()
    assert done == ["after the first"]


def test_a_signal_of_one_job_is_not_one_of_the_next():
    with pytest.raises(Preempted), preemptible():
        send(signal.SIGTERM)
    with preemptible(), at_epoch_end():
        signals.obey()


def test_handlers_of_a_library_are_replaced_only_while_somebody_listens():
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        theirs = signal.getsignal(signal.SIGTERM)
        signals.listen()
        assert signal.getsignal(signal.SIGTERM) is theirs
        with preemptible():
            signal.signal(signal.SIGTERM, theirs)
            signals.listen()
            with pytest.raises(Preempted):
                send(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_change_no_handler():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with preemptible():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_goes_from_process_to_process():
    again = pickle.loads(pickle.dumps(Preempted("SIGTERM")))
    assert (again.code, str(again)) == (REQUEUE, str(Preempted("SIGTERM")))


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


def test_nothing_asks_another_thread_to_stop():
    found = []

    def work() -> None:
        with stop_on_signal() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
