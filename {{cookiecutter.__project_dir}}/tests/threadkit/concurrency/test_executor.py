"""Claims about BoundedExecutor: bounds, the four policies, waiting, scopes, and its end."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, as_completed
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from threadkit.concurrency import (
    BoundedExecutor,
    Cancelled,
    CancelScope,
    Closed,
    DeadlineExceeded,
    ExpiredInLine,
    Saturated,
    current_scope,
    fail_after,
    move_on_after,
    named,
    remaining,
)

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def occupy(executor: BoundedExecutor, gate: threading.Event, count: int = 1) -> list[Any]:
    """Fill `count` workers with tasks that wait for the gate, and see them started."""
    started = [threading.Event() for _ in range(count)]

    def wait(event: threading.Event) -> None:
        event.set()
        assert gate.wait(10)

    futures = [executor.submit(wait, event) for event in started]
    for event in started:
        assert event.wait(5)
    return futures


def test_it_is_an_executor_that_runs_and_maps() -> None:
    with BoundedExecutor(2, 10) as executor:
        assert isinstance(executor, Executor)
        assert executor.submit(pow, 2, exp=5).result(5) == 32
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        futures = [executor.submit(abs, -3) for _ in range(3)]
        assert [future.result() for future in as_completed(futures, 5)] == [3, 3, 3]


def test_abort_refuses_what_does_not_fit_and_the_text_is_the_remedy(gate: Any) -> None:
    with BoundedExecutor(1, 1, name="small") as executor:
        occupy(executor, gate)
        queued = executor.submit(abs, -1)
        with pytest.raises(Saturated, match=r"'small' is full: 1 running and 1 queued.*max_wait"):
            executor.submit(abs, -2)
        assert executor.stats()["rejected"] == 1
        gate.set()
        assert queued.result(5) == 1


def test_caller_runs_runs_it_in_the_submitting_thread(gate: Any) -> None:
    with BoundedExecutor(1, 0, "caller_runs") as executor:
        occupy(executor, gate)
        assert executor.submit(threading.get_ident).result(0) == threading.get_ident()
        gate.set()


def test_discard_answers_with_a_future_that_holds_saturated(gate: Any) -> None:
    ran: list[int] = []
    with BoundedExecutor(1, 0, "discard") as executor:
        occupy(executor, gate)
        discarded = executor.submit(ran.append, 1)
        assert isinstance(discarded.exception(0), Saturated)
        assert executor.stats()["discarded"] == 1
        gate.set()
    assert not ran


def test_discard_oldest_drops_the_one_that_waits_longest(gate: Any) -> None:
    with BoundedExecutor(1, 2, "discard_oldest") as executor:
        occupy(executor, gate)
        first, second, third = (executor.submit(abs, -n) for n in (1, 2, 3))
        assert isinstance(first.exception(0), Saturated)
        gate.set()
        assert (second.result(5), third.result(5)) == (2, 3)


def test_submit_waits_for_a_place_when_asked_to(gate: Any, threads: Any, eventually: Any) -> None:
    with BoundedExecutor(1, 0, max_wait=30) as executor:
        occupy(executor, gate)
        submitted = threads.start(lambda: executor.submit(abs, -7).result(5))
        eventually(lambda: executor.stats()["submitters_waiting"] == 1)
        gate.set()
        assert submitted.result(5) == 7


def test_submitters_are_served_first_come_first_served(
    gate: Any, threads: Any, eventually: Any
) -> None:
    order: list[int] = []
    with BoundedExecutor(1, 1, max_wait=30) as executor:
        occupy(executor, gate)
        executor.submit(order.append, 0)
        for number in (1, 2, 3):
            threads.start(executor.submit, order.append, number)
            eventually(lambda n=number: executor.stats()["submitters_waiting"] == n)
        gate.set()
        threads.join()
    assert order == [0, 1, 2, 3]


def test_waiting_for_a_place_is_over_after_max_wait(gate: Any) -> None:
    with BoundedExecutor(1, 0, max_wait=0.01) as executor:
        occupy(executor, gate)
        with pytest.raises(Saturated):
            executor.submit(abs, -1)
        assert executor.stats()["submitters_waiting"] == 0
        gate.set()


def test_waiting_for_a_place_is_over_with_the_scope(gate: Any, threads: Any) -> None:
    ran: list[int] = []
    with BoundedExecutor(1, 0, max_wait=30) as executor:
        occupy(executor, gate)
        with pytest.raises(ExpiredInLine) as caught, fail_after(0.01):
            executor.submit(ran.append, 1)
        assert isinstance(caught.value, Saturated)
        assert isinstance(caught.value, DeadlineExceeded)
        with CancelScope() as scope:
            threading.Timer(0.01, scope.cancel).start()
            executor.submit(ran.append, 2)
        assert scope.cancelled_caught
        gate.set()
    assert not ran


def test_context_and_scope_go_along_by_a_copy() -> None:
    variable.set("mine")

    def look() -> tuple[str, Any]:
        before = variable.get()
        variable.set("the task's")
        return before, current_scope()

    with BoundedExecutor(1, 1) as executor, fail_after(30) as scope:
        assert executor.submit(look).result(5) == ("mine", scope)
        assert executor.submit(look).result(5) == ("mine", scope)
    assert variable.get() == "mine"


def test_pool_threads_themselves_start_in_an_empty_context() -> None:
    """Else, where threads inherit a context, the first request's deadline would stay."""
    seen: list[str] = []
    variable.set("the first submitter's")
    with BoundedExecutor(1, 1) as executor:
        adopt = executor._adopt_thread

        def spy() -> None:
            seen.append(variable.get())
            adopt()

        executor._adopt_thread = spy  # type: ignore[method-assign]
        executor.submit(abs, -1).result(5)
    assert seen == ["unset"]


def test_a_task_whose_scope_is_over_never_starts(gate: Any) -> None:
    ran: list[int] = []
    with BoundedExecutor(1, 1) as executor:
        occupy(executor, gate)
        with CancelScope() as scope:
            queued = executor.submit(ran.append, 1)
            scope.cancel("nobody waits")
        gate.set()
        assert isinstance(queued.exception(5), Cancelled)
    assert not ran


def test_waiting_for_a_result_ends_with_the_waiters_scope_and_not_the_task(gate: Any) -> None:
    with BoundedExecutor(1, 0) as executor:
        (task,) = occupy(executor, gate)
        with pytest.raises(DeadlineExceeded), fail_after(0.01):
            task.result()
        with move_on_after(0.01) as scope:
            task.exception()
        assert scope.cancelled_caught
        with fail_after(30), pytest.raises(TimeoutError):
            task.result(timeout=0.01)
        gate.set()
        task.result(5)


def test_a_result_that_is_there_is_returned_even_when_the_scope_is_over() -> None:
    with BoundedExecutor(1, 0) as executor:
        task = executor.submit(abs, -1)
        task.result(5)
        with CancelScope(0):
            assert task.result() == 1


def test_shutdown_reports_by_name_what_it_left(gate: Any) -> None:
    def lingering() -> None:
        assert gate.wait(10)

    executor = BoundedExecutor(1, 2)
    executor.submit(lingering)
    queued = executor.submit(abs, -1)
    report = executor.shutdown(cancel_futures=True, timeout=0.01)
    assert [name.split(".")[-1] for name in report.cancelled] == ["abs"]
    assert [name.split(".")[-1] for name in report.left] == ["lingering"]
    assert queued.cancelled()
    with pytest.raises(Closed) as caught:
        executor.submit(abs, -1)
    assert isinstance(caught.value, RuntimeError)
    gate.set()
    assert executor.shutdown().left == ()


def test_shutdown_waits_no_longer_than_the_scope(gate: Any) -> None:
    executor = BoundedExecutor(1, 0)
    occupy(executor, gate)
    with fail_after(0.01):
        assert len(executor.shutdown().left) == 1
    gate.set()
    executor.shutdown()


def test_shutdown_runs_what_is_queued_and_refuses_those_in_line(
    gate: Any, threads: Any, eventually: Any
) -> None:
    ran: list[int] = []
    executor = BoundedExecutor(1, 1, max_wait=30)
    occupy(executor, gate)
    executor.submit(ran.append, 1)
    in_line = threads.start(executor.submit, ran.append, 2)
    eventually(lambda: executor.stats()["submitters_waiting"] == 1)
    executor.shutdown(wait=False)
    assert isinstance(in_line.exception(5), Closed)
    gate.set()
    executor.shutdown()
    assert ran == [1]


def test_shutting_down_from_within_says_what_to_do() -> None:
    with BoundedExecutor(1, 0) as executor:
        error = executor.submit(executor.shutdown).exception(5)
    assert "from outside" in str(error)


def test_bad_arguments_are_refused() -> None:
    bad: list[tuple[int, int, Any]] = [
        (0, 1, "abort"), (1, -1, "abort"), (1, 1, "drop"), (1, 0, "discard_oldest"),
    ]  # fmt: skip
    for workers, queue, rejection in bad:
        with pytest.raises(ValueError, match=r"must be|needs"):
            BoundedExecutor(workers, queue, rejection)


def test_it_shows_its_state_and_is_listed_until_collected(gate: Any) -> None:
    with BoundedExecutor(2, 3, name="shown") as executor:
        occupy(executor, gate)
        assert repr(executor) == ("<BoundedExecutor 'shown' open, 1/2 running, 0/3 queued, abort>")
        assert executor in named("executor")
        assert all(thread.name.startswith("shown") for thread in executor._threads)
        gate.set()
    assert "shut down" in repr(executor)
    stats = executor.stats()
    assert stats["submitted"] == stats["completed"] == 1


def test_an_error_does_not_keep_its_future_alive_in_a_cycle() -> None:
    import gc
    import weakref

    class Failure(Exception):
        pass

    def fail() -> None:
        raise Failure

    with BoundedExecutor(1, 0) as executor:
        gc.disable()
        try:
            future = executor.submit(fail)
            error = weakref.ref(future.exception(5))
            del future
        finally:
            gc.enable()
    assert error() is None


def test_a_forked_child_has_an_executor_of_its_own(
    gate: Any, in_forked_child: Callable[[Callable[[], None]], None]
) -> None:
    with BoundedExecutor(1, 1, name="forked") as executor:
        occupy(executor, gate)
        executor.submit(abs, -1)

        def check() -> None:
            assert executor.stats()["active"] == executor.stats()["queued"] == 0
            assert executor.submit(abs, -5).result(5) == 5

        in_forked_child(check)
        gate.set()


def test_nothing_is_lost_or_run_twice_under_stress(threads: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        ran = [0] * 32
        refused = [0] * 32
        with BoundedExecutor(4, 4, max_wait=0.002) as executor:

            def hammer(me: int) -> int:
                def work() -> None:
                    with lock:
                        ran[me] += 1

                accepted = 0
                for round_ in range(60):
                    try:
                        with move_on_after(0.001 if round_ % 3 == 0 else 5):
                            executor.submit(work)
                            accepted += 1
                    except Saturated:
                        refused[me] += 1
                return accepted

            lock = threading.Lock()
            results = [threads.start(hammer, me) for me in range(32)]
            accepted = sum(result.result(60) for result in results)
        stats = executor.stats()
    finally:
        sys.setswitchinterval(interval)
    assert stats["submitted"] == stats["completed"] == accepted
    assert sum(ran) <= accepted  # those whose scope was over or left did not run
    assert stats["active"] == stats["queued"] == stats["submitters_waiting"] == 0


class ExecutorMachine(RuleBasedStateMachine):
    """Against a model of two numbers: who runs, who is queued."""

    WORKERS, QUEUE = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.executor = BoundedExecutor(self.WORKERS, self.QUEUE)
        self.running: list[tuple[threading.Event, Any]] = []
        self.queued: list[tuple[threading.Event, Any]] = []
        self.done = 0

    @rule()
    def submit(self) -> None:
        gate = threading.Event()
        fits = len(self.running) < self.WORKERS or len(self.queued) < self.QUEUE
        try:
            future = self.executor.submit(gate.wait, 10)
        except Saturated:
            assert not fits
            return
        assert fits
        line = self.running if len(self.running) < self.WORKERS else self.queued
        line.append((gate, future))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish_one(self, data: Any) -> None:
        gate, future = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        gate.set()
        assert future.result(10)
        self.done += 1
        while self.queued and len(self.running) < self.WORKERS:
            gate, future = self.queued.pop(0)
            if future.cancelled():
                continue
            self.running.append((gate, future))

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def cancel_one_that_waits(self, data: Any) -> None:
        _, future = self.queued[data.draw(st.integers(0, len(self.queued) - 1))]
        future.cancel()

    @invariant()
    def counts_agree(self) -> None:
        for _ in range(10_000):
            stats = self.executor.stats()
            if (stats["active"], stats["queued"]) == (len(self.running), len(self.queued)):
                return
            threading.Event().wait(0.0005)
        raise AssertionError((self.executor, self.running, self.queued))

    def teardown(self) -> None:
        for gate, _ in self.running + self.queued:
            gate.set()
        assert self.executor.shutdown(timeout=10).left == ()


TestExecutorMachine = ExecutorMachine.TestCase
TestExecutorMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_remaining_is_seen_in_the_task() -> None:
    with BoundedExecutor(1, 0) as executor, fail_after(30):
        assert 0 < (executor.submit(remaining).result(5) or 0) <= 30
