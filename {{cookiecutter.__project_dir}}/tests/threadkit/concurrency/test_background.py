"""Claims about background: bounded, apart from the request, and every task accounted for."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from threadkit.concurrency import (
    Background,
    Cancelled,
    Closed,
    Saturated,
    background,
    current_scope,
    fail_after,
    named,
    register_context_variable,
    remaining,
    sleep,
)

request_id = register_context_variable(contextvars.ContextVar("request_id", default="none"))
request: contextvars.ContextVar[str] = contextvars.ContextVar("request")


@pytest.fixture
def work() -> Iterator[Background]:
    work = Background("work")
    yield work
    work.drain(5)


def test_it_works_with_its_defaults() -> None:
    assert background.submit(pow, 2, exp=5).result(5) == 32


def test_a_task_keeps_the_registered_variables_and_not_the_requests(work: Background) -> None:
    request_id.set("abc")
    request.set("the web framework's")
    with fail_after(0.01):
        future = work.submit(lambda: (request_id.get(), request.get("not here"), remaining()))
    name, found, left = future.result(5)
    assert (name, found) == ("abc", "not here")
    assert left is not None
    assert 25 < left <= 30, "the task's own time limit, not the request's deadline"


def test_using_the_request_there_is_a_clear_error(work: Background) -> None:
    def task() -> None:
        raise RuntimeError("Working outside of request context.")

    error = work.submit(task).exception(5)
    assert error is not None
    assert "pass it to background.submit() as arguments" in error.__notes__[0]


def test_a_task_has_its_own_time_limit(work: Background) -> None:
    work.configure(time_limit=0.01)
    assert isinstance(work.submit(sleep, 60).exception(5), TimeoutError)
    assert work.stats()["finished"] == work.stats()["failed"] == 1


def test_it_refuses_when_full_and_when_closed(work: Background, gate: threading.Event) -> None:
    work.configure(max_workers=1, queue_size=1)
    work.submit(gate.wait, 10)
    work.submit(gate.wait, 10)
    with pytest.raises(Saturated, match=r"1 running and 1 queued, so .*wait was refused"):
        work.submit(gate.wait, 10)
    gate.set()
    work.drain(5)
    with pytest.raises(Closed, match="is closed"):
        work.submit(gate.wait, 10)
    stats = work.stats()
    assert (stats["accepted"], stats["finished"], stats["refused"]) == (2, 2, 2)


def test_a_failure_is_logged_under_the_tasks_name(
    work: Background, caplog: pytest.LogCaptureFixture
) -> None:
    def send_mail() -> None:
        raise ValueError("no such address")

    with caplog.at_level(logging.ERROR):
        work.submit(send_mail).exception(5)
    assert "send_mail failed" in caplog.text
    assert "no such address" in caplog.text


def test_drain_finishes_what_it_can(work: Background) -> None:
    ran: list[int] = []
    work.configure(max_workers=1)
    for number in range(10):
        work.submit(ran.append, number)
    report = work.drain(5)
    assert ran == list(range(10))
    assert (report.accepted, report.finished, report.dropped) == (10, 10, ())


def test_drain_cancels_what_runs_and_names_what_it_dropped(
    work: Background, eventually: Any
) -> None:
    def patient() -> None:
        sleep(60)

    def queued() -> None: ...

    work.configure(max_workers=1)
    running = work.submit(patient)
    waiting = work.submit(queued)
    eventually(lambda: work.stats()["running"] == 1)
    report = work.drain(0.01, grace=5)
    assert sorted(name.split(".")[-1] for name in report.dropped) == ["patient", "queued"]
    assert report.finished + len(report.dropped) == report.accepted == 2
    assert isinstance(running.exception(5), Cancelled)
    assert waiting.cancelled()


def test_a_task_that_ignores_the_drain_is_reported_dropped_and_not_counted_twice(
    work: Background, gate: threading.Event, eventually: Any
) -> None:
    stuck = work.submit(gate.wait, 10)
    eventually(lambda: work.stats()["running"] == 1)
    report = work.drain(0.01, grace=0.01)
    assert (report.accepted, report.finished, len(report.dropped)) == (1, 0, 1)
    gate.set()
    stuck.result(5)
    again = work.drain(1)
    assert (again.accepted, again.finished, len(again.dropped)) == (1, 0, 1)


def test_a_future_cancelled_by_its_owner_counts_as_dropped(
    work: Background, gate: threading.Event
) -> None:
    work.configure(max_workers=1)
    work.submit(gate.wait, 10)
    assert work.submit(abs, 1).cancel()
    gate.set()
    report = work.drain(5)
    assert (report.accepted, report.finished, report.dropped) == (2, 1, ("builtins.abs",))


def test_configure_opens_it_again_after_a_drain_and_is_refused_at_work(work: Background) -> None:
    work.submit(abs, 1).result(5)
    with pytest.raises(RuntimeError, match="before the first submit"):
        work.configure()
    work.drain(5)
    work.configure(max_workers=2)
    assert work.submit(abs, -2).result(5) == 2
    assert work.stats()["accepted"] == 1
    with pytest.raises(ValueError, match="max_workers=0"):
        Background().configure(max_workers=0)


def test_a_drain_waits_no_longer_than_its_scope(work: Background, gate: Any) -> None:
    work.submit(gate.wait, 10)
    with fail_after(0.02):
        report = work.drain(30, grace=30)
    assert report.seconds < 5
    gate.set()


def test_it_shows_its_state_and_is_listed(work: Background, gate: threading.Event) -> None:
    work.submit(gate.wait, 10)
    assert repr(work) == "<Background 'work' open, 1 pending, 0 finished, 0 dropped>"
    assert work in named("background")
    gate.set()
    work.drain(5)
    assert repr(work) == "<Background 'work' closed, 0 pending, 1 finished, 0 dropped>"


def test_tasks_run_in_a_scope_of_their_own_name(work: Background) -> None:
    def look() -> Any:
        scope = current_scope()
        assert scope is not None
        return scope.name

    assert work.submit(look).result(5).endswith("look")


def test_a_forked_child_starts_empty_and_open(
    work: Background,
    gate: threading.Event,
    in_forked_child: Callable[[Callable[[], None]], None],
) -> None:
    work.configure(max_workers=1)
    work.submit(gate.wait, 10)

    def check() -> None:
        assert work.stats()["pending"] == 0
        assert work.submit(abs, -1).result(5) == 1
        report = work.drain(5)
        assert (report.accepted, report.finished) == (1, 1)

    in_forked_child(check)
    gate.set()


@pytest.mark.parametrize("timeout", [0.0, 0.005])
def test_finished_and_dropped_always_make_accepted_under_stress(
    threads: Any, timeout: float
) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        work = Background("stressed")
        work.configure(max_workers=4, queue_size=50)
        go = threading.Barrier(33)

        def hammer() -> int:
            go.wait(10)
            accepted = 0
            for round_ in range(30):
                try:
                    future = work.submit(sleep, 0.0002)
                    accepted += 1
                    if round_ % 7 == 0:
                        future.cancel()
                except Saturated:
                    pass
            return accepted

        results = [threads.start(hammer) for _ in range(32)]
        go.wait(10)
        work.drain(timeout, grace=5)
        accepted = sum(result.result(30) for result in results)
        report = work.drain(5)
    finally:
        sys.setswitchinterval(interval)
    assert report.finished + len(report.dropped) == report.accepted == accepted
