"""Claims about scopes: deadlines, cancellation, the tree, callbacks, and who swallows what."""

from __future__ import annotations

import contextvars
import logging
import math
import pickle
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from threadkit.concurrency import (
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    checkpoint,
    current_scope,
    fail_after,
    live_scopes,
    move_on_after,
    remaining,
    shield,
    sleep,
)
from threadkit.concurrency.timer import timer

LONG = 60.0


def test_outside_any_scope_nothing_raises_and_there_is_no_deadline() -> None:
    checkpoint()
    sleep(0)
    assert remaining() is None
    assert current_scope() is None


def test_fail_after_raises_a_timeout_error_and_names_its_seconds() -> None:
    with pytest.raises(DeadlineExceeded, match=r"scope 'price' had 0\.01 s") as caught:
        with fail_after(0.01, name="price"):
            sleep(LONG)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, Cancelled)


def test_move_on_after_ends_the_block_quietly_and_says_so() -> None:
    with move_on_after(0.01) as scope:
        sleep(LONG)
    assert scope.cancelled_caught
    assert scope.over


def test_a_block_that_finishes_late_without_looking_finishes_normally() -> None:
    with fail_after(0) as scope:
        pass
    assert not scope.cancelled_caught


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_zero_or_negative_seconds_are_over_at_the_first_checkpoint(seconds: float) -> None:
    with fail_after(seconds):
        assert remaining() == 0.0
        with pytest.raises(DeadlineExceeded):
            checkpoint()
        with pytest.raises(DeadlineExceeded):
            sleep(0)


@pytest.mark.parametrize("seconds", [None, math.inf])
def test_none_and_infinity_mean_no_deadline(seconds: float | None) -> None:
    with fail_after(seconds) as scope:
        checkpoint()
        assert remaining() is None
        assert scope.deadline is None


def test_nan_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="None for no deadline"):
        fail_after(math.nan)
    with pytest.raises(ValueError, match="None for no deadline"):
        CancelScope(5, deadline=math.nan)


def test_a_child_only_shortens_its_parents_deadline() -> None:
    with fail_after(LONG) as parent:
        with fail_after(2 * LONG) as longer:
            assert longer.deadline == parent.deadline
        with fail_after(1) as shorter:
            assert shorter.deadline is not None
            assert parent.deadline is not None
            assert shorter.deadline < parent.deadline
            assert remaining() <= 1  # type: ignore[operator]


def test_the_deadline_is_absolute_whatever_the_clock_of_the_day_says() -> None:
    end = monotonic() + LONG
    assert CancelScope(deadline=end).deadline == end
    assert CancelScope(2 * LONG, deadline=end).deadline == end


def test_a_scope_swallows_its_own_cancellation_and_no_other() -> None:
    with CancelScope() as outer:
        with CancelScope() as inner:
            outer.cancel("all of it")
            checkpoint()
        pytest.fail("the outer scope's cancellation stopped at the inner one")
    assert outer.cancelled_caught
    assert not inner.cancelled_caught
    with pytest.raises(Cancelled, match="from elsewhere"), CancelScope():
        raise Cancelled("from elsewhere")


def test_a_parents_deadline_passes_through_a_child_that_would_have_longer() -> None:
    with move_on_after(0.01) as outer:
        with move_on_after(LONG) as inner:
            sleep(2 * LONG)
    assert (outer.cancelled_caught, inner.cancelled_caught) == (True, False)


def test_an_inner_scope_that_moved_on_leaves_the_outer_one_running() -> None:
    with CancelScope() as outer:
        with move_on_after(0) as inner:
            checkpoint()
        assert inner.cancelled_caught
        checkpoint()
    assert not outer.cancelled_caught


def test_fail_after_lets_an_explicit_cancel_through() -> None:
    with pytest.raises(Cancelled, match="client left") as caught, fail_after(LONG) as scope:
        scope.cancel("client left")
        checkpoint()
    assert not isinstance(caught.value, DeadlineExceeded)


def test_cancellation_is_level_triggered() -> None:
    with CancelScope() as scope:
        scope.cancel("over")
        for _ in range(3):
            with pytest.raises(Cancelled):
                checkpoint()
            with pytest.raises(Cancelled):
                sleep(1)
        assert remaining() == 0.0


def test_the_first_reason_stays() -> None:
    scope = CancelScope()
    assert scope.cancel("first")
    assert not scope.cancel("second")
    assert scope.reason == "first"
    late = CancelScope(0)
    late.cancel("afterwards")
    assert "deadline" in (late.reason or "")


def test_a_scope_may_be_cancelled_before_it_is_entered() -> None:
    scope = CancelScope()
    scope.cancel("too late to start")
    with scope:
        checkpoint()
    assert scope.cancelled_caught


def test_cancelling_wakes_a_sleeper_in_another_thread_at_once(threads: Any) -> None:
    scope = CancelScope()
    asleep = threading.Event()

    def sleeper() -> float:
        with scope:
            asleep.set()
            sleep(LONG)
        return monotonic()

    woken = threads.start(sleeper)
    assert asleep.wait(5)
    began = monotonic()
    scope.cancel("wake up")
    assert woken.result(5) - began < 1
    assert scope.cancelled_caught


def test_cancellation_reaches_descendants_in_other_threads(threads: Any) -> None:
    barrier = threading.Barrier(9)

    def descend(depth: int) -> None:
        with CancelScope():
            if depth:
                descend(depth - 1)
            barrier.wait(5)
            sleep(LONG)

    with CancelScope() as root:
        tasks = [
            threads.start(contextvars.copy_context().run, descend, depth) for depth in (0,) * 8
        ]
        barrier.wait(5)
        root.cancel("everybody")
        for task in tasks:
            assert isinstance(task.exception(5), Cancelled)


def test_leaving_a_block_cancels_what_still_runs_under_it(threads: Any) -> None:
    inside = threading.Event()

    def straggler() -> None:
        inside.set()
        sleep(LONG)

    with CancelScope():
        task = threads.start(contextvars.copy_context().run, straggler)
        assert inside.wait(5)
    assert "background.submit" in str(task.exception(5))


def test_a_scope_cancelled_between_any_two_steps_of_its_entering_never_waits(
    threads: Any,
) -> None:
    for _ in range(300):
        scope = CancelScope()
        go = threading.Barrier(2)

        def cancel(scope: CancelScope = scope, go: threading.Barrier = go) -> None:
            go.wait(5)
            scope.cancel("any moment")

        cancelled = threads.start(cancel)
        go.wait(5)
        with scope:
            sleep(LONG)
        assert scope.cancelled_caught
        cancelled.result(5)
    threads.join()


def test_a_child_entered_while_its_parent_is_cancelled_is_cancelled_too(threads: Any) -> None:
    for _ in range(300):
        with CancelScope() as parent:
            go = threading.Barrier(2)

            def cancel(parent: CancelScope = parent, go: threading.Barrier = go) -> None:
                go.wait(5)
                parent.cancel("now")

            cancelled = threads.start(cancel)
            go.wait(5)
            with CancelScope():
                sleep(LONG)
        assert parent.cancelled_caught
        cancelled.result(5)
    threads.join()


# Shield


def test_a_shield_keeps_out_the_cancellation_and_the_deadline_around_it() -> None:
    cleaned = False
    with fail_after(LONG) as outer:
        outer.cancel("leave")
        with pytest.raises(Cancelled), shield(5) as inner:
            checkpoint()
            assert 4 < (remaining() or 0) <= 5
            cleaned = True
            assert inner.parent is None
            raise Cancelled("of the work itself")
        with pytest.raises(Cancelled, match="leave"):
            checkpoint()
    assert cleaned


def test_a_shields_own_seconds_end_it_quietly() -> None:
    with shield(0.01) as scope:
        sleep(LONG)
    assert scope.cancelled_caught


# Misuse


def test_entering_twice_says_what_to_do() -> None:
    scope = CancelScope(name="once")
    with scope, pytest.raises(RuntimeError, match="new one for each `with`"):
        scope.__enter__()
    with pytest.raises(RuntimeError, match="'once' left"):
        scope.__enter__()


def test_leaving_in_another_thread_says_what_to_do(threads: Any) -> None:
    scope = CancelScope()
    scope.__enter__()
    error = threads.start(scope.__exit__, None, None, None).exception(5)
    assert "another thread" in str(error)
    assert scope.over
    contextvars.Context()  # the entering thread still has it as its current one:
    with pytest.raises(Cancelled, match="block was left"):
        checkpoint()
    scope._step_out()
    assert current_scope() is None


def test_leaving_out_of_order_never_leaves_a_dead_scope_behind() -> None:
    """A streaming generator that is closed after the request it belonged to."""

    def stream() -> Any:
        with CancelScope(name="inner"):
            yield

    outer = CancelScope(name="outer")
    outer.__enter__()
    generator = stream()
    next(generator)
    outer.__exit__(None, None, None)
    assert current_scope() is None
    with CancelScope(name="the next request") as following:
        generator.close()
        assert current_scope() is following
    assert current_scope() is None


def test_live_scopes_lists_parents_before_children_and_forgets_what_was_left() -> None:
    with CancelScope(name="a") as a, CancelScope(name="b") as b:
        listed = [scope for scope in live_scopes() if scope in (a, b)]
        assert listed == [a, b]
        assert a.children == [b]
        assert b.parent is a
        assert a.thread_id == threading.get_ident()
        assert a.age >= 0
    assert a not in live_scopes()
    assert b not in live_scopes()


def test_repr_shows_the_state() -> None:
    scope = CancelScope(LONG, name="job")
    assert "'job' new, 60.000 s left" in repr(scope)
    with scope:
        assert "active, " in repr(scope)
        with CancelScope(shield=True) as child:
            assert "no deadline, shielded" in repr(child)
        scope.cancel("enough")
        assert "cancelled: enough" in repr(scope)
        checkpoint()
    assert "left, cancelled_caught" in repr(scope)


def test_a_cancelled_error_can_be_pickled_without_its_scope() -> None:
    error = pickle.loads(pickle.dumps(CancelScope(0).error()))
    assert isinstance(error, DeadlineExceeded)
    assert "deadline exceeded" in str(error)


# on_cancel


def test_on_cancel_runs_once_in_the_cancelling_thread_and_not_under_a_lock(threads: Any) -> None:
    ran_in: list[int] = []
    with CancelScope() as scope:

        def callback() -> None:
            ran_in.append(threading.get_ident())
            assert scope.over
            scope.on_cancel(lambda: ran_in.append(-1))  # would deadlock under the lock
            repr(scope)

        scope.on_cancel(callback)
        canceller = threads.start(lambda: (scope.cancel("x"), threading.get_ident())[1])
        ident = canceller.result(5)
    assert ran_in == [ident, -1]


def test_on_cancel_of_a_scope_that_is_over_runs_at_once() -> None:
    with CancelScope(0) as scope:
        ran: list[str] = []
        unregister = scope.on_cancel(lambda: ran.append("now"))
        assert ran == ["now"]
        assert not unregister()


def test_a_deadline_calls_back_by_the_timer() -> None:
    fired = threading.Event()
    with CancelScope(0.01) as scope:
        scope.on_cancel(fired.set)
        assert fired.wait(5)
        assert scope.over


def test_a_parents_deadline_calls_back_in_the_child_also_if_registered_before_entering() -> None:
    fired = threading.Event()
    with CancelScope(0.02):
        child = CancelScope(LONG)
        child.on_cancel(fired.set)
        with child:
            assert fired.wait(5)


def test_an_unregistered_callback_never_runs() -> None:
    ran: list[int] = []
    with CancelScope(LONG) as scope:
        unregister = scope.on_cancel(lambda: ran.append(1))
        assert timer.stats()["live"] == 1
        assert unregister()
        assert not unregister()
        assert timer.stats()["live"] == 0
        scope.cancel("x")
    assert not ran


def test_leaving_the_block_forgets_its_callbacks() -> None:
    ran: list[int] = []
    with CancelScope(LONG) as scope:
        scope.on_cancel(lambda: ran.append(1))
    scope.cancel("later")
    assert not ran
    assert timer.stats()["live"] == 0


def test_unregister_waits_for_a_callback_that_is_running(threads: Any) -> None:
    """Or a socket would go back to its pool and be shut down there."""
    running, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def callback() -> None:
        running.set()
        assert go_on.wait(5)
        order.append("callback ended")

    scope = CancelScope()
    unregister = scope.on_cancel(callback)
    cancelled = threads.start(scope.cancel, "x")
    assert running.wait(5)

    def leave() -> bool:
        result = unregister()
        order.append("unregistered")
        return result

    left = threads.start(leave)
    with pytest.raises(TimeoutError):
        left.result(0.05)
    go_on.set()
    assert left.result(5) is False
    cancelled.result(5)
    assert order == ["callback ended", "unregistered"]


def test_a_callback_may_unregister_itself() -> None:
    answers: list[bool] = []
    scope = CancelScope()
    unregister = scope.on_cancel(lambda: answers.append(unregister()))
    scope.cancel("x")
    assert answers == [False]


def test_unregister_racing_cancel_runs_the_callback_once_or_never(threads: Any) -> None:
    for _ in range(200):
        ran: list[int] = []
        scope = CancelScope()
        unregister = scope.on_cancel(lambda ran=ran: ran.append(1))  # type: ignore[misc]
        go = threading.Barrier(3)

        def race(act: Callable[[], bool], go: threading.Barrier = go) -> bool:
            go.wait(5)
            return act()

        cancelled = threads.start(race, scope.cancel)
        unregistered = threads.start(race, unregister)
        go.wait(5)
        cancelled.result(5)
        assert unregistered.result(5) == (not ran)
    threads.join()


def test_a_callback_that_fails_is_logged_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[int] = []

    def fail() -> None:
        raise ValueError("in a callback")

    scope = CancelScope()
    scope.on_cancel(fail)
    scope.on_cancel(lambda: ran.append(1))
    with caplog.at_level(logging.ERROR):
        assert scope.cancel("x")
    assert ran == [1]
    assert "in a callback" in caplog.text


# Fork


def test_in_a_forked_child_the_scope_goes_on_and_the_callbacks_are_the_parents(
    in_forked_child: Callable[[Callable[[], None]], None],
) -> None:
    ran: list[int] = []
    with fail_after(LONG, name="outer") as scope:
        scope.on_cancel(lambda: ran.append(1))
        scope._lock.acquire()  # as if another thread were cancelling at this moment

        def check() -> None:
            assert timer.stats() == {"live": 0, "held": 0, "threads": 0}
            assert current_scope() is scope
            assert live_scopes() == [scope]
            fired = threading.Event()
            with move_on_after(0.01) as child:
                child.on_cancel(fired.set)
                assert fired.wait(5), "the child's own timer does not work"
            assert scope.cancel("in the child")
            assert not ran, "the parent's callback ran in the child"
            with pytest.raises(Cancelled):
                sleep(1)

        try:
            in_forked_child(check)
        finally:
            scope._lock.release()
        assert not scope.over
