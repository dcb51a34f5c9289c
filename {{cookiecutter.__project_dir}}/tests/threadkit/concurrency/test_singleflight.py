"""Claims about SingleFlight: one load, everybody leaves when they must, failures once."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic, perf_counter
from typing import Any

import pytest

from threadkit.concurrency import (
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    SingleFlight,
    TaskGroup,
    close_shared_executor,
    configure_shared_executor,
    fail_after,
    move_on_after,
    named,
    register_context_variable,
    remaining,
    shared_executor,
    sleep,
)

LONG = 60.0
private: contextvars.ContextVar[str] = contextvars.ContextVar("private", default="unset")
public: contextvars.ContextVar[str] = register_context_variable(
    contextvars.ContextVar("public", default="unset")
)


@pytest.fixture
def flights() -> SingleFlight[str, Any]:
    return SingleFlight("test")


@pytest.fixture(params=["own thread", "worker", "no worker free"])
def way(request: Any, gate: threading.Event) -> Any:
    """The three ways a load can be run; the value is a scope for the leader."""
    if request.param == "own thread":
        yield threading.Lock  # any context manager that is no scope
    elif request.param == "worker":
        yield lambda: fail_after(LONG)
    else:
        configure_shared_executor(max_workers=1, queue_size=0)
        busy = shared_executor().submit(gate.wait, 30)
        yield lambda: fail_after(LONG)
        gate.set()
        busy.result(5)
        close_shared_executor()
        configure_shared_executor(max_workers=6, queue_size=64)


def test_a_hundred_threads_make_one_load(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any, way: Any
) -> None:
    release = threading.Event()
    loads: list[int] = []

    def load() -> object:
        loads.append(1)
        assert release.wait(10)
        return marker

    def ask() -> object:
        with way():
            return flights.do("key", load)

    marker = object()
    answers = [threads.start(ask) for _ in range(100)]
    eventually(lambda: flights.stats()["waiting"] == 100)
    release.set()
    assert all(answer.result(10) is marker for answer in answers)
    assert len(loads) == 1
    assert flights.stats()["in_flight"] == 0


def test_a_failing_load_fails_its_waiters_once_and_the_next_call_tries_afresh(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any, way: Any
) -> None:
    release = threading.Event()
    loads: list[int] = []

    def load() -> None:
        loads.append(1)
        assert release.wait(10)
        raise LookupError("no such thing")

    def ask() -> None:
        with way():
            flights.do("key", load)

    answers = [threads.start(ask) for _ in range(100)]
    eventually(lambda: flights.stats()["waiting"] == 100)
    release.set()
    assert all(isinstance(answer.exception(10), LookupError) for answer in answers)
    assert len(loads) == 1
    assert flights.do("key", lambda: 7) == 7


def test_a_failing_load_answers_everybody_within_twice_its_time(
    flights: SingleFlight[str, Any], threads: Any
) -> None:
    go = threading.Barrier(100)

    def load() -> None:
        sleep(0.3)
        raise LookupError

    def ask() -> float:
        go.wait(10)
        began = perf_counter()
        with pytest.raises(LookupError):
            flights.do("key", load)
        return perf_counter() - began

    answers = [threads.start(ask) for _ in range(100)]
    assert max(answer.result(10) for answer in answers) < 0.6
    assert flights.stats()["loads"] == 1


def test_a_waiter_leaves_at_its_own_deadline_while_the_load_goes_on(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any
) -> None:
    release = threading.Event()
    leader = threads.start(flights.do, "key", lambda: release.wait(10))
    eventually(lambda: flights.stats()["waiting"] == 1)
    began = monotonic()
    with pytest.raises(DeadlineExceeded), fail_after(0.02):
        flights.do("key", lambda: None)
    assert monotonic() - began < 5
    assert flights.stats()["in_flight"] == 1
    release.set()
    assert leader.result(5) is True


def test_the_leader_leaves_at_its_own_deadline_too_and_the_load_is_not_lost_to_others(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any
) -> None:
    release = threading.Event()
    scope = CancelScope()

    def lead() -> None:
        with scope:
            flights.do("key", lambda: release.wait(10))

    leader = threads.start(lead)
    eventually(lambda: flights.stats()["waiting"] == 1)
    waiter = threads.start(flights.do, "key", lambda: "another load")
    eventually(lambda: flights.stats()["waiting"] == 2)
    scope.cancel("client left")
    leader.result(5)
    assert scope.cancelled_caught
    release.set()
    assert waiter.result(5) is True


def test_a_leader_that_runs_the_load_itself_does_not_take_it_along_when_cancelled(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any, gate: Any
) -> None:
    """No worker is free: the leader stays for the others, and its own cancellation follows."""
    configure_shared_executor(max_workers=1, queue_size=0)
    shared_executor().submit(gate.wait, 10)
    release = threading.Event()
    scope = CancelScope()

    def load() -> tuple[str, float | None]:
        release.wait(10)
        sleep(0.001)
        return "loaded", remaining()

    def lead() -> None:
        with scope:
            flights.do("key", load)
            scope.checkpoint()

    leader = threads.start(lead)
    eventually(lambda: flights.stats()["in_flight"] == 1)
    waiter = threads.start(flights.do, "key", lambda: None)
    eventually(lambda: flights.stats()["waiting"] == 2)
    scope.cancel("client left")
    release.set()
    assert waiter.result(5) == ("loaded", None)
    leader.result(5)
    assert scope.cancelled_caught
    gate.set()
    close_shared_executor()
    configure_shared_executor(max_workers=6, queue_size=64)


@pytest.mark.parametrize("workers_free", [True, False])
def test_the_load_ends_with_its_last_waiter(
    flights: SingleFlight[str, Any], threads: Any, gate: Any, workers_free: bool
) -> None:
    if not workers_free:
        configure_shared_executor(max_workers=1, queue_size=0)
        shared_executor().submit(gate.wait, 10)
    ended: list[str] = []
    done = threading.Event()

    def load() -> None:
        try:
            sleep(LONG)
        except Cancelled as error:
            ended.append(str(error))
            raise
        finally:
            done.set()

    with move_on_after(0.02) as scope:
        flights.do("key", load)
    assert scope.cancelled_caught
    assert done.wait(5)
    assert "has left" in ended[0] or "have left" in ended[0] or "left" in ended[0]
    assert flights.do("key", lambda: "afresh") == "afresh"
    assert flights.stats()["abandoned"] == 1
    gate.set()
    close_shared_executor(5)
    configure_shared_executor(max_workers=6, queue_size=64)


def test_the_load_has_no_deadline_of_its_leader_and_only_registered_variables(
    flights: SingleFlight[str, Any], way: Any
) -> None:
    private.set("the request's")
    public.set("its id")
    with way():
        answer = flights.do("key", lambda: (private.get(), public.get(), remaining()))
    assert answer == ("unset", "its id", None)


def test_time_limit_bounds_the_load() -> None:
    flights: SingleFlight[str, None] = SingleFlight(time_limit=0.01)
    with pytest.raises(DeadlineExceeded):
        flights.do("key", lambda: sleep(LONG))


def test_asking_for_the_key_that_is_being_loaded_is_an_error_not_a_deadlock(
    flights: SingleFlight[str, Any], way: Any
) -> None:
    with way(), pytest.raises(RuntimeError, match="asks for 'key' itself"):
        flights.do("key", lambda: flights.do("key", lambda: 1))

    def in_a_group() -> Any:
        with TaskGroup() as group:
            group.start(flights.do, "key", lambda: 1)

    with way(), pytest.raises(ExceptionGroup) as caught:
        flights.do("key", in_a_group)
    assert caught.group_contains(RuntimeError, match="asks for 'key' itself")
    with way():
        assert flights.do("key", lambda: flights.do("another", lambda: 1)) == 1


def test_forget_lets_the_next_caller_load_afresh(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any
) -> None:
    release = threading.Event()
    old = threads.start(flights.do, "key", lambda: release.wait(10) and "old")
    eventually(lambda: flights.stats()["waiting"] == 1)
    assert flights.forget("key")
    assert not flights.forget("key")
    assert flights.do("key", lambda: "new") == "new"
    release.set()
    assert old.result(5) == "old"


def test_an_interrupted_load_answers_those_who_wait(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any
) -> None:
    release = threading.Event()

    def load() -> None:
        assert release.wait(10)
        raise KeyboardInterrupt

    leader = threads.start(flights.do, "key", load)
    eventually(lambda: flights.stats()["waiting"] == 1)
    waiter = threads.start(flights.do, "key", load)
    eventually(lambda: flights.stats()["waiting"] == 2)
    release.set()
    assert isinstance(leader.exception(5), KeyboardInterrupt)
    assert "KeyboardInterrupt: ask again" in str(waiter.exception(5))


def test_the_traceback_does_not_grow_with_every_waiter(
    flights: SingleFlight[str, Any], threads: Any, eventually: Any
) -> None:
    release = threading.Event()

    def load() -> None:
        assert release.wait(10)
        raise LookupError

    answers = [threads.start(flights.do, "key", load) for _ in range(30)]
    eventually(lambda: flights.stats()["waiting"] == 30)
    release.set()
    depth, traceback = 0, answers[0].exception(5).__traceback__
    threads.join()
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    assert depth < 15


def test_it_shows_its_state_and_is_listed(flights: SingleFlight[str, Any]) -> None:
    seen = flights.do("key", lambda: repr(flights))
    assert seen == "<SingleFlight 'test' 1 in flight, 1 waiting>"
    assert flights in named("singleflight")


def test_a_forked_child_starts_without_flights(
    flights: SingleFlight[str, Any],
    threads: Any,
    eventually: Any,
    in_forked_child: Callable[[Callable[[], None]], None],
) -> None:
    release = threading.Event()
    leader = threads.start(flights.do, "key", lambda: release.wait(10))
    eventually(lambda: flights.stats()["waiting"] == 1)

    def check() -> None:
        with fail_after(5):
            assert flights.do("key", lambda: "the child's") == "the child's"

    in_forked_child(check)
    release.set()
    leader.result(5)


def test_flights_under_stress(flights: SingleFlight[Any, Any], threads: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def load(key: int) -> int:
            sleep(0.0002)
            return key

        def hammer(me: int) -> None:
            for round_ in range(40):
                key = round_ % 3
                with move_on_after((0.0002, 0.001, LONG)[(me + round_) % 3]):
                    assert flights.do(key, partial(load, key)) == key

        for result in [threads.start(hammer, me) for me in range(32)]:
            result.result(60)
    finally:
        sys.setswitchinterval(interval)
    stats = flights.stats()
    assert stats["in_flight"] == stats["waiting"] == 0
