"""The switch interval is the shortest that anybody asks for, and comes back."""

from __future__ import annotations

import sys
import threading

import pytest

from threadkit.profiling.switching import Switching
from threadkit.profiling.window import OneAtATime


def now() -> float:
    return round(sys.getswitchinterval(), 7)


def test_the_shortest_holds_until_the_last_has_left() -> None:
    usual, switching = now(), Switching()
    both, leave = threading.Barrier(2), threading.Event()

    def hold_shorter() -> None:
        with switching.at_most(50e-6):
            both.wait(10)
            leave.wait(10)

    other = threading.Thread(target=hold_shorter)
    with switching.at_most(100e-6):
        assert now() == 100e-6
        assert repr(switching) == "<Switching 1 threads ask, 0.0001 s>"
        other.start()
        both.wait(10)
        assert now() == 50e-6
    assert now() == 50e-6
    leave.set()
    other.join(10)
    assert now() == usual


def test_what_is_usual_from_now_on_is_what_comes_back() -> None:
    """A worker sets it while the admin address may be answering already."""
    usual, switching = now(), Switching()
    try:
        with switching.at_most(100e-6):
            switching.usually(0.001)
            assert now() == 100e-6
        assert now() == 0.001
    finally:
        sys.setswitchinterval(usual)


def test_a_longer_one_than_usual_changes_nothing() -> None:
    usual = now()
    with Switching().at_most(1.0):
        assert now() == usual


def test_in_a_thread_the_inner_block_counts() -> None:
    usual, switching = now(), Switching()
    with switching.at_most(100e-6):
        with switching.at_most(None):
            assert now() == usual
        assert now() == 100e-6
        with switching.at_most(200e-6):
            assert now() == 200e-6
        assert now() == 100e-6
    assert now() == usual


def test_it_comes_back_after_an_exception() -> None:
    usual = now()
    with pytest.raises(ZeroDivisionError), Switching().at_most(100e-6):
        raise ZeroDivisionError
    assert now() == usual


def test_many_threads_leave_what_was_there() -> None:
    usual, switching = now(), Switching()
    start = threading.Barrier(8)

    def enter_and_leave() -> None:
        start.wait(10)
        for _ in range(200):
            with switching.at_most(100e-6), switching.at_most(None):
                pass

    threads = [threading.Thread(target=enter_and_leave) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert now() == usual


def test_a_profile_that_takes_time_runs_at_the_usual_one() -> None:
    """It would else change what it measures, for as long as it does."""
    from threadkit.profiling.switching import SWITCHING

    usual = now()
    with SWITCHING.at_most(100e-6):
        with OneAtATime().claim():
            assert now() == usual
        assert now() == 100e-6
