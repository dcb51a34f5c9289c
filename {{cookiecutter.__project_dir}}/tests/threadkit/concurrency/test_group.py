"""Claims about TaskGroup: joins always, fails first, never deadlocks, bounded maps."""

from __future__ import annotations

import contextvars
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from threadkit.concurrency import (
    BoundedExecutor,
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    TaskGroup,
    checkpoint,
    close_shared_executor,
    configure_shared_executor,
    current_scope,
    fail_after,
    move_on_after,
    shared_executor,
    sleep,
)

LONG = 60.0


@pytest.fixture
def two_threads() -> Iterator[BoundedExecutor]:
    with BoundedExecutor(2, 0, name="two") as executor:
        yield executor


def fail(text: str = "failed") -> None:
    raise ValueError(text)


def test_results_are_at_hand_in_start_order_after_the_block() -> None:
    with TaskGroup() as group:
        futures = [group.start(pow, 2, exp=n) for n in range(10)]
    assert group.results == [2**n for n in range(10)]
    assert all(future.done() for future in futures)


def test_the_first_failure_cancels_the_siblings_and_the_block() -> None:
    started = threading.Barrier(2)

    def slow() -> None:
        started.wait(5)
        sleep(LONG)

    def fails() -> None:
        started.wait(5)
        fail()

    with pytest.raises(ExceptionGroup) as caught, TaskGroup(name="fan-out") as group:
        sibling = group.start(slow)
        group.start(fails)
        sleep(LONG)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert "'fan-out': 1 failure" in str(caught.value)
    assert isinstance(sibling.exception(), Cancelled)


def test_every_failure_is_in_the_group_the_blocks_own_too() -> None:
    barrier = threading.Barrier(2)

    def fails(text: str) -> None:
        barrier.wait(5)
        fail(text)

    with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
        group.start(fails, "a")
        group.start(fails, "b")
        raise KeyError("the block")
    errors = caught.value.exceptions
    assert isinstance(errors[0], KeyError)
    assert sorted(str(error) for error in errors[1:]) == ["a", "b"]


def test_a_childs_failure_seen_by_the_block_is_reported_once() -> None:
    with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
        group.start(fail).result()
    assert len(caught.value.exceptions) == 1


def test_a_childs_own_deadline_is_a_failure() -> None:
    def impatient() -> None:
        with fail_after(0):
            checkpoint()

    with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
        group.start(impatient)
    assert isinstance(caught.value.exceptions[0], DeadlineExceeded)


def test_the_parents_cancellation_comes_out_as_itself() -> None:
    with move_on_after(0.3) as scope:
        with TaskGroup() as group:
            children = [group.start(sleep, LONG) for _ in range(3)]
            sleep(LONG)
    assert scope.cancelled_caught
    assert all(isinstance(child.exception(), DeadlineExceeded) for child in children)
    with pytest.raises(DeadlineExceeded), fail_after(0.01), TaskGroup() as group:
        group.start(sleep, LONG)


def test_failures_win_over_the_parents_cancellation() -> None:
    def stubborn() -> None:
        try:
            sleep(LONG)
        finally:
            fail("while cleaning up")

    with pytest.raises(ExceptionGroup), fail_after(0.01), TaskGroup() as group:
        group.start(stubborn)
        group.start(sleep, LONG)


def test_the_exit_joins_even_what_ignores_its_cancellation(gate: Any, threads: Any) -> None:
    """The parent is cancelled while the exit joins; the join still waits for the child."""
    joined = threading.Event()
    started = threading.Event()

    def ignores() -> None:
        started.set()
        assert gate.wait(10)

    scope = CancelScope()

    def parent() -> None:
        with scope:
            with TaskGroup() as group:
                group.start(ignores)
            joined.set()

    done = threads.start(parent)
    assert started.wait(5)
    scope.cancel("while joining")
    assert not joined.wait(0.05)
    gate.set()
    assert joined.wait(5)
    done.result(5)


def test_cancel_ends_the_group_quietly() -> None:
    with TaskGroup() as group:
        child = group.start(sleep, LONG)
        group.cancel("found it")
        sleep(LONG)
    assert isinstance(child.exception(), Cancelled)


def test_a_child_that_has_not_started_when_the_group_is_over_never_runs(gate: Any) -> None:
    ran: list[int] = []
    with pytest.raises(ExceptionGroup), TaskGroup(limit=1) as group:
        group.start(gate.wait, 10)
        later = group.start(ran.append, 1)
        gate.set()
        raise KeyError
    assert not ran or later.exception() is None


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_comes_out_as_itself_after_the_join(
    interrupt: type[BaseException],
) -> None:
    def interrupted() -> None:
        raise interrupt

    with pytest.raises(interrupt), TaskGroup() as group:
        child = group.start(sleep, LONG)
        raise interrupt
    assert child.done()
    with pytest.raises(interrupt), TaskGroup() as group:
        child = group.start(sleep, LONG)
        group.start(interrupted)
    assert child.done()


def test_an_interrupt_while_joining_cancels_and_still_joins(monkeypatch: Any) -> None:
    from threadkit.concurrency import _parking

    original = _parking.Parker.park
    hits = itertools.count()
    main = threading.get_ident()

    def park(self: Any, timeout: float | None = None) -> None:
        if threading.get_ident() == main and next(hits) == 0:
            raise KeyboardInterrupt
        original(self, timeout)

    group = TaskGroup()
    with pytest.raises(KeyboardInterrupt), group:
        child = group.start(sleep, LONG)
        monkeypatch.setattr(_parking.Parker, "park", park)
    assert isinstance(child.exception(), Cancelled)


def test_limit_bounds_how_many_run_at_once(threads: Any) -> None:
    lock = threading.Lock()
    now = most = 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        sleep(0.001)
        with lock:
            now -= 1

    with TaskGroup(limit=3) as group:
        for _ in range(60):
            group.start(work)
    assert 1 < most <= 3


def nest(executor: BoundedExecutor, depth: int, width: int = 3) -> int:
    if depth == 0:
        return 1
    with TaskGroup(executor=executor) as group:
        children = [group.start(nest, executor, depth - 1, width) for _ in range(width)]
    return sum(child.result() for child in children)


def test_groups_three_deep_finish_on_two_threads(two_threads: BoundedExecutor) -> None:
    assert nest(two_threads, 3) == 27


def test_groups_finish_on_a_saturated_executor(two_threads: BoundedExecutor, gate: Any) -> None:
    for _ in range(2):
        two_threads.submit(gate.wait, 10)
    assert nest(two_threads, 3) == 27
    assert not two_threads._tickets, "a finished group left its requests for help behind"
    gate.set()


def test_groups_finish_on_an_executor_that_was_shut_down() -> None:
    executor = BoundedExecutor(2, 0)
    executor.shutdown()
    assert nest(executor, 3) == 27


def test_groups_within_executor_tasks_that_fill_it_finish() -> None:
    with BoundedExecutor(2, 6) as executor:
        outer = [executor.submit(nest, executor, 2) for _ in range(6)]
        assert [task.result(10) for task in outer] == [9] * 6


def test_a_request_for_help_that_comes_after_the_join_is_taken_back(
    gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy executor would collect the tickets of groups that are long over."""
    with BoundedExecutor(1, 0) as executor:
        busy = executor.submit(gate.wait, 10)
        group = TaskGroup(executor=executor)
        lend = executor.lend

        def lend_late(ticket: Any) -> bool:
            monkeypatch.undo()
            group._join()
            return lend(ticket)

        monkeypatch.setattr(executor, "lend", lend_late)
        with group:
            group.start(abs, 1)
        assert not executor._tickets
        gate.set()
        busy.result(5)


def test_a_slot_that_comes_free_later_is_used(gate: Any) -> None:
    """The block is busy itself; the children start as soon as a worker can take them."""
    with BoundedExecutor(1, 0) as executor:
        busy = executor.submit(gate.wait, 10)
        with TaskGroup(executor=executor) as group:
            ran = threading.Event()
            group.start(ran.set)
            assert not ran.is_set()
            gate.set()
            assert ran.wait(5)
        busy.result(5)


def test_waiting_for_a_child_in_the_block_runs_it_if_nobody_else_will(gate: Any) -> None:
    with BoundedExecutor(1, 0) as executor:
        busy = executor.submit(gate.wait, 10)
        with TaskGroup(executor=executor) as group:
            assert group.start(threading.get_ident).result() == threading.get_ident()
        gate.set()
        busy.result(5)


def test_a_child_may_wait_for_a_sibling_within_a_limit_of_one() -> None:
    with TaskGroup(limit=1) as group:

        def first() -> int:
            return group.start(abs, -7).result()

        assert group.start(first).result() == 7


def test_children_may_start_siblings_while_the_group_joins() -> None:
    with TaskGroup() as group:

        def spread(depth: int) -> int:
            if depth:
                group.start(spread, depth - 1)
                group.start(spread, depth - 1)
            return depth

        group.start(spread, 4)
    assert len(group.results) == 31


def test_each_child_runs_in_a_copy_of_its_starters_context_and_the_groups_scope() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(1)

    def child() -> tuple[int, bool]:
        mine = variable.get()
        variable.set(99)
        return mine, current_scope() is group.scope

    with TaskGroup(limit=1) as group:
        with fail_after(LONG):
            group.start(child)
        variable.set(2)
        group.start(child)
    assert group.results == [(1, True), (2, True)]
    assert variable.get() == 2


def test_misuse_says_what_to_do() -> None:
    group = TaskGroup()
    with pytest.raises(RuntimeError, match="in its `with` block"):
        group.start(abs, 1)
    with group, pytest.raises(RuntimeError, match="new TaskGroup"):
        group.__enter__()
    with pytest.raises(RuntimeError, match="in its `with` block"):
        group.start(abs, 1)
    with pytest.raises(ValueError, match="limit=0"):
        TaskGroup(limit=0)
    with TaskGroup() as group:
        group.cancel()
        with pytest.raises(Cancelled):
            group.start(abs, 1)


def test_map_yields_in_order_over_an_endless_iterator_with_bounded_memory() -> None:
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    with TaskGroup(limit=2) as group:
        results = []
        for square in group.map(lambda n: n * n, endless(), window=4):
            results.append(square)
            assert drawn <= len(results) + 4
            if len(results) == 500:
                break
    assert results == [n * n for n in range(1, 501)]
    assert not group._tasks
    assert group.stats()["waiting"] == 0


def test_map_passes_on_what_a_child_raised_once() -> None:
    with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
        list(group.map(lambda n: 1 // n, [2, 1, 0, 1]))
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


def test_map_makes_progress_without_any_thread() -> None:
    executor = BoundedExecutor(1, 0)
    executor.shutdown()
    with TaskGroup(executor=executor) as group:
        assert list(group.map(abs, range(-20, 0))) == list(range(20, 0, -1))


def test_it_shows_its_state(gate: Any) -> None:
    with TaskGroup(limit=1, name="shown") as group:
        started = threading.Event()

        def work() -> None:
            started.set()
            assert gate.wait(10)

        group.start(work)
        group.start(abs, 1)
        assert started.wait(5)
        assert repr(group) == ("<TaskGroup 'shown' open, 1 of 1 running, 1 waiting, 0 finished>")
        gate.set()
    assert "joined" in repr(group)
    assert group.stats() == {"running": 0, "waiting": 0, "finished": 2, "failures": 0}


def test_the_shared_executor_is_sized_before_its_first_use() -> None:
    configure_shared_executor(max_workers=3, queue_size=5)
    assert shared_executor().max_workers == 3
    configure_shared_executor(max_workers=3, queue_size=5)
    with pytest.raises(RuntimeError, match="close_shared_executor"):
        configure_shared_executor(max_workers=4, queue_size=5)
    close_shared_executor()
    configure_shared_executor(max_workers=6, queue_size=64)


def test_a_forked_child_makes_groups_of_its_own(
    in_forked_child: Callable[[Callable[[], None]], None],
) -> None:
    with TaskGroup() as group:
        group.start(abs, -1).result()  # the shared executor has a thread now

    def check() -> None:
        with TaskGroup(limit=2) as group:
            for n in range(10):
                group.start(abs, -n)
        assert group.results == list(range(10))

    in_forked_child(check)


def test_groups_under_stress(threads: Any, two_threads: BoundedExecutor) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def hammer(me: int) -> None:
            for round_ in range(6):
                if (me + round_) % 3:
                    assert nest(two_threads, 2) == 9
                    continue
                with pytest.raises(ExceptionGroup), TaskGroup(2, executor=two_threads) as group:
                    for child in range(3):
                        group.start(abs, child)
                    group.start(fail)
                    for _ in range(4):
                        group.start(sleep, LONG)

        results = [threads.start(hammer, me) for me in range(32)]
        for result in results:
            result.result(60)
    finally:
        sys.setswitchinterval(interval)
    assert two_threads.stats()["active"] == 0 or not two_threads._tickets


class GroupMachine(RuleBasedStateMachine):
    """Children behind gates, started and let go in any order: all run once, within the limit."""

    LIMIT = 2

    def __init__(self) -> None:
        super().__init__()
        self.executor = BoundedExecutor(3, 0)
        self.group = TaskGroup(self.LIMIT, executor=self.executor)
        self.group.__enter__()
        self.gates: list[threading.Event] = []
        self.open: set[int] = set()
        self.running = self.most = 0
        self.lock = threading.Lock()
        self.ran: list[int] = []

    def _work(self, number: int) -> int:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.gates[number].wait(10)
        with self.lock:
            self.running -= 1
            self.ran.append(number)
        return number

    @rule()
    def start(self) -> None:
        self.gates.append(threading.Event())
        self.group.start(self._work, len(self.gates) - 1)

    @rule(data=st.data())
    def let_one_go(self, data: Any) -> None:
        closed = [n for n in range(len(self.gates)) if n not in self.open]
        if closed:
            number = data.draw(st.sampled_from(closed))
            self.open.add(number)
            self.gates[number].set()

    @rule(data=st.data())
    def wait_for_one_that_may_end(self, data: Any) -> None:
        """Only if all before it may end as well; else the limit rightly holds it back."""
        ready = [n for n in range(len(self.gates)) if set(range(n + 1)) <= self.open]
        if ready:
            number = data.draw(st.sampled_from(ready))
            assert self.group._tasks[number].result(10) == number

    @invariant()
    def the_limit_holds(self) -> None:
        assert self.most <= self.LIMIT

    def teardown(self) -> None:
        for gate in self.gates:
            gate.set()
        self.group.__exit__(None, None, None)
        assert sorted(self.ran) == self.group.results == list(range(len(self.gates)))
        assert self.executor.shutdown(timeout=10).left == ()
        assert self.most <= self.LIMIT


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
