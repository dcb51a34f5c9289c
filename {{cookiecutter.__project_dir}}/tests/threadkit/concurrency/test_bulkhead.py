"""Claims about Bulkhead: bounds, order, and that no permit is ever lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from threadkit.concurrency import (
    Bulkhead,
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    ExpiredInLine,
    Saturated,
    WaitedInVain,
    fail_after,
    move_on_after,
    named,
)


def test_what_does_not_fit_is_refused_at_once_with_the_remedy() -> None:
    bulkhead = Bulkhead("narrow", 1)
    with bulkhead, pytest.raises(Saturated, match=r"'narrow' is full: 1 inside.*max_waiting"):
        bulkhead.acquire()
    with bulkhead:
        pass


def test_waiters_are_served_first_come_first_served(threads: Any, eventually: Any) -> None:
    bulkhead = Bulkhead("fair", 1, max_waiting=5)
    order: list[int] = []

    def enter(number: int) -> None:
        with bulkhead:
            order.append(number)

    with bulkhead:
        for number in range(5):
            threads.start(enter, number)
            eventually(lambda n=number: bulkhead.stats()["waiting"] == n + 1)
        with pytest.raises(Saturated):
            bulkhead.acquire()
    threads.join()
    assert order == [0, 1, 2, 3, 4]
    assert bulkhead.stats()["inside"] == 0


def test_waiting_is_over_after_max_wait() -> None:
    bulkhead = Bulkhead("short", 1, max_waiting=1, max_wait=0.01)
    with bulkhead, pytest.raises(Saturated, match=r"no permit came free in 0\.01 s") as caught:
        bulkhead.acquire()
    assert not isinstance(caught.value, DeadlineExceeded)
    assert bulkhead.stats()["waiting"] == 0


def test_waiting_is_over_at_the_scopes_deadline_which_is_both_errors() -> None:
    bulkhead = Bulkhead("slow", 1, max_waiting=1)
    with bulkhead:
        with pytest.raises(ExpiredInLine) as caught, fail_after(0.01):
            bulkhead.acquire()
        assert isinstance(caught.value, Saturated)
        assert isinstance(caught.value, DeadlineExceeded)
        with move_on_after(0.01) as scope:
            bulkhead.acquire()
        assert scope.cancelled_caught


def test_a_cancelled_waiter_leaves_at_once(threads: Any, eventually: Any) -> None:
    bulkhead = Bulkhead("cancel", 1, max_waiting=1)
    scope = CancelScope()

    def enter() -> None:
        with scope, bulkhead:
            pytest.fail("it got in")

    with bulkhead:
        waiter = threads.start(enter)
        eventually(lambda: bulkhead.stats()["waiting"] == 1)
        scope.cancel("client left")
        waiter.result(5)
    assert scope.cancelled_caught
    assert bulkhead.stats()["inside"] == bulkhead.stats()["waiting"] == 0


def test_a_scope_that_is_over_gets_no_permit() -> None:
    bulkhead = Bulkhead("free", 1)
    with CancelScope() as scope:
        scope.cancel("x")
        with pytest.raises(Cancelled):
            bulkhead.acquire()
    assert bulkhead.stats()["admitted"] == 0


def test_an_interrupted_waiter_that_was_granted_passes_the_permit_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from threadkit.concurrency import bulkhead as module

    bulkhead = Bulkhead("interrupted", 1, max_waiting=2)
    bulkhead.acquire()

    def park(parker: Any, timeout: float | None = None) -> None:
        bulkhead.release()  # the permit is handed to this waiter in the very same moment
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "park", park)
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire()
    assert bulkhead.stats()["inside"] == 0


def test_it_decorates_functions() -> None:
    bulkhead = Bulkhead("decorator", 1)

    @bulkhead
    def work(a: int, b: int = 2) -> int:
        """Documented."""
        assert bulkhead.stats()["inside"] == 1
        return a + b

    assert work(1, b=3) == 4
    assert work.__doc__ == "Documented."


def test_an_exception_gives_the_permit_back() -> None:
    bulkhead = Bulkhead("failing", 1)
    for _ in range(3):
        with pytest.raises(KeyError), bulkhead:
            raise KeyError
    assert bulkhead.stats()["inside"] == 0


def test_misuse_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="use `with`"):
        Bulkhead("unpaired", 1).release()
    for arguments in [(0,), (1, -1), (1, 1, -1), (1, 1, float("nan"))]:
        with pytest.raises(ValueError, match="must be"):
            Bulkhead("bad", *arguments)  # type: ignore[arg-type]


def test_it_shows_its_state_and_is_listed() -> None:
    bulkhead = Bulkhead("shown", 3, 4)
    with bulkhead:
        assert repr(bulkhead) == "<Bulkhead 'shown' 1/3 inside, 0/4 waiting>"
    assert bulkhead in named("bulkhead")


def test_a_forked_child_has_all_permits(
    in_forked_child: Callable[[Callable[[], None]], None],
) -> None:
    bulkhead = Bulkhead("forked", 1)
    with bulkhead, bulkhead._lock:

        def check() -> None:
            with bulkhead:
                assert bulkhead.stats()["inside"] == 1
            bulkhead.release()  # the parent's block, left in the child
            assert bulkhead.stats()["inside"] == 0

        in_forked_child(check)


def test_no_permit_is_lost_under_stress(threads: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    bulkhead = Bulkhead("stressed", 3, max_waiting=20, max_wait=0.002)
    lock = threading.Lock()
    inside = most = 0

    def hammer(me: int) -> int:
        nonlocal inside, most
        entered = 0
        for round_ in range(80):
            try:
                with move_on_after((0, 0.0005, 0.001, 5)[(me + round_) % 4]), bulkhead:
                    with lock:
                        inside += 1
                        most = max(most, inside)
                    entered += 1
                    with lock:
                        inside -= 1
            except Saturated:
                pass
        return entered

    try:
        results = [threads.start(hammer, me) for me in range(32)]
        entered = sum(result.result(60) for result in results)
    finally:
        sys.setswitchinterval(interval)
    stats = bulkhead.stats()
    assert most <= 3
    assert stats["inside"] == stats["waiting"] == 0
    assert stats["admitted"] == entered
    for _ in range(3):
        bulkhead.acquire()


def test_10000_cancelled_scopes_leave_no_permit_behind() -> None:
    bulkhead = Bulkhead("cancelled", 1, max_waiting=1)
    for _ in range(5_000):
        with CancelScope() as scope, bulkhead:
            scope.cancel("x")
    with bulkhead:
        for _ in range(5_000):
            with CancelScope() as scope:
                scope.cancel("x")
                bulkhead.acquire()
    stats = bulkhead.stats()
    assert stats["inside"] == stats["waiting"] == 0


class BulkheadMachine(RuleBasedStateMachine):
    """Against a model of a number and a list: who is inside, who waits in which order."""

    INSIDE, WAITING = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.bulkhead = Bulkhead("model", self.INSIDE, self.WAITING)
        self.inside = 0
        self.line: list[tuple[CancelScope, threading.Thread, list[str]]] = []

    def settle(self) -> None:
        for _ in range(10_000):
            stats = self.bulkhead.stats()
            if (stats["inside"], stats["waiting"]) == (self.inside, len(self.line)):
                return
            threading.Event().wait(0.0005)
        raise AssertionError((self.bulkhead, self.inside, self.line))

    @precondition(lambda self: self.inside < self.INSIDE)
    @rule()
    def enter(self) -> None:
        self.bulkhead.acquire()
        self.inside += 1

    @precondition(lambda self: self.inside == self.INSIDE and len(self.line) < self.WAITING)
    @rule()
    def wait_in_line(self) -> None:
        scope = CancelScope()
        answer: list[str] = []

        def enter() -> None:
            with scope:
                self.bulkhead.acquire()
                answer.append("in")

        thread = threading.Thread(target=enter)
        self.line.append((scope, thread, answer))
        thread.start()
        self.settle()

    @precondition(lambda self: len(self.line) == self.WAITING)
    @rule()
    def be_refused(self) -> None:
        with pytest.raises(Saturated):
            self.bulkhead.acquire()

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        self.bulkhead.release()
        if self.line:
            _, thread, answer = self.line.pop(0)
            thread.join(10)
            assert answer == ["in"]
        else:
            self.inside -= 1

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def a_waiter_gives_up(self, data: Any) -> None:
        position = data.draw(st.integers(0, len(self.line) - 1))
        scope, thread, answer = self.line.pop(position)
        scope.cancel("gave up")
        thread.join(10)
        assert answer == []

    @invariant()
    def counts_agree(self) -> None:
        self.settle()

    def teardown(self) -> None:
        while self.inside:
            self.leave()


TestBulkheadMachine = BulkheadMachine.TestCase
TestBulkheadMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_try_acquire_takes_a_free_permit_and_never_waits() -> None:
    bulkhead = Bulkhead("try", max_concurrent=1, max_waiting=5)
    assert bulkhead.try_acquire()
    assert not bulkhead.try_acquire()
    bulkhead.release()
    assert bulkhead.try_acquire()


def test_a_larger_bulkhead_lets_the_waiting_in_at_once(threads: Any, eventually: Any) -> None:
    bulkhead = Bulkhead("grows", max_concurrent=1, max_waiting=3)
    bulkhead.acquire()
    waiting = [threads.start(bulkhead.acquire) for _ in range(3)]
    eventually(lambda: bulkhead.stats()["waiting"] == 3)
    bulkhead.resize(3)
    eventually(lambda: sum(each.done() for each in waiting) == 2)
    assert bulkhead.stats()["inside"] == 3
    bulkhead.resize(4)
    threads.join()
    assert (bulkhead.stats()["inside"], bulkhead.stats()["waiting"]) == (4, 0)


def test_a_smaller_bulkhead_lets_nobody_in_until_it_has_emptied(
    threads: Any, eventually: Any
) -> None:
    bulkhead = Bulkhead("shrinks", max_concurrent=3, max_waiting=1)
    for _ in range(3):
        bulkhead.acquire()
    last = threads.start(bulkhead.acquire)
    eventually(lambda: bulkhead.stats()["waiting"] == 1)
    bulkhead.resize(1)
    bulkhead.release()
    bulkhead.release()
    assert not last.done()
    assert bulkhead.stats()["inside"] == 1
    bulkhead.release()
    threads.join()
    assert bulkhead.stats()["inside"] == 1


def test_a_bulkhead_cannot_shrink_to_nothing() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Bulkhead("none", max_concurrent=1).resize(0)


def test_a_wait_that_is_over_is_told_from_a_full_line() -> None:
    bulkhead = Bulkhead("full", max_concurrent=1, max_waiting=1, max_wait=0.01)
    bulkhead.acquire()
    with pytest.raises(WaitedInVain):
        bulkhead.acquire()
    refuses = Bulkhead("refuses", max_concurrent=1)
    refuses.acquire()
    with pytest.raises(Saturated) as refused:
        refuses.acquire()
    assert type(refused.value) is Saturated
