"""Claims about the one timer thread: it comes when needed, keeps nothing, and goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

import pytest

from threadkit.concurrency import CancelScope
from threadkit.concurrency.timer import Timer, timer


def test_functions_run_in_the_order_of_their_times() -> None:
    clock = Timer()
    order: list[int] = []
    done = threading.Event()
    now = monotonic()
    clock.call_at(now + 0.04, done.set)
    clock.call_at(now + 0.02, lambda: order.append(2))
    clock.call_at(now + 0.01, lambda: order.append(1))
    assert done.wait(5)
    assert order == [1, 2]


def test_an_earlier_entry_wakes_a_thread_that_waits_for_a_later_one() -> None:
    clock = Timer()
    late = clock.call_at(monotonic() + 60, lambda: None)
    fired = threading.Event()
    clock.call_at(monotonic() + 0.01, fired.set)
    assert fired.wait(5)
    assert clock.cancel(late)


def test_a_function_that_fails_is_logged_and_the_next_one_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Timer()
    fired = threading.Event()

    def fail() -> None:
        raise ValueError("in a timer")

    with caplog.at_level(logging.ERROR):
        clock.call_at(0, fail)
        clock.call_at(0, fired.set)
        assert fired.wait(5)
    assert "in a timer" in caplog.text


def test_the_thread_goes_when_nothing_needs_it_and_comes_back(
    eventually: Callable[..., None],
) -> None:
    clock = Timer()
    handle = clock.call_at(monotonic() + 3600, lambda: None)
    assert "running, 1 live" in repr(clock)
    assert clock.cancel(handle)
    assert not clock.cancel(handle)
    eventually(lambda: clock.stats()["threads"] == 0, "the thread's end")
    assert "asleep, 0 live of 0" in repr(clock)
    fired = threading.Event()
    clock.call_at(0, fired.set)
    assert fired.wait(5)


def test_an_entry_that_has_fired_cannot_be_cancelled_any_more() -> None:
    """It once was counted down twice, and the count of live entries went below zero."""
    clock = Timer()
    fired = threading.Event()
    handle = clock.call_at(0, fired.set)
    assert fired.wait(5)
    assert not clock.cancel(handle)
    assert clock.stats()["live"] == 0


def test_cancelled_entries_are_swept_while_others_live() -> None:
    clock = Timer()
    kept = clock.call_at(monotonic() + 60, lambda: None)
    for _ in range(10_000):
        clock.cancel(clock.call_at(monotonic() + 3600, lambda: None))
    assert clock.stats()["live"] == 1
    assert clock.stats()["held"] < 200
    clock.cancel(kept)


def test_10000_cancelled_scopes_leave_no_thread_and_no_timer(
    eventually: Callable[..., None],
) -> None:
    before = threading.active_count()
    scopes = [CancelScope(3600) for _ in range(10_000)]
    for scope in scopes:
        scope.on_cancel(lambda: None)
    assert timer.stats()["live"] == 10_000
    for scope in scopes:
        scope.cancel("x")
    assert timer.stats()["live"] == timer.stats()["held"] == 0
    eventually(lambda: threading.active_count() == before, "the end of the timer's thread")
