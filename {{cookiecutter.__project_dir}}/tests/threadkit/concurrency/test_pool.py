"""Claims about ObjectPool: reuse, reset, bounds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from threadkit.concurrency import ObjectPool, named


def test_objects_are_reset_and_used_again() -> None:
    pool: ObjectPool[list[int]] = ObjectPool(list, list.clear, max_idle=2)
    with pool.borrow() as first:
        first.append(1)
    with pool.borrow() as second:
        assert second is first
        assert second == []
        with pool.borrow() as third:
            assert third is not first
    assert pool.stats()["built"] == 2


def test_it_keeps_no_more_than_max_idle() -> None:
    pool: ObjectPool[object] = ObjectPool(object, max_idle=1)
    with pool.borrow(), pool.borrow(), pool.borrow():
        assert pool.stats()["lent"] == 3
    stats = pool.stats()
    assert (stats["idle"], stats["lent"], stats["dropped"]) == (1, 0, 2)
    pool.clear()
    assert pool.stats()["idle"] == 0


def test_what_fails_to_reset_is_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def reset(item: object) -> None:
        assert pool.stats()["lent"] == 1  # would deadlock under the lock
        raise ValueError("broken")

    pool: ObjectPool[object] = ObjectPool(object, reset, name="fragile")
    with pool.borrow():
        pass
    assert pool.stats()["idle"] == 0
    assert "pool fragile dropped" in caplog.text


def test_a_failing_block_gives_its_object_back_reset() -> None:
    pool: ObjectPool[list[int]] = ObjectPool(list, list.clear)
    with pytest.raises(KeyError), pool.borrow() as item:
        item.append(1)
        raise KeyError
    with pool.borrow() as again:
        assert again is item
        assert again == []


def test_a_failing_factory_leaves_nothing_lent() -> None:
    def fail() -> None:
        raise ValueError

    pool: ObjectPool[None] = ObjectPool(fail)
    with pytest.raises(ValueError), pool.borrow():  # noqa: PT011
        pass
    assert pool.stats()["lent"] == 0
    with pytest.raises(ValueError, match="max_idle=-1"):
        ObjectPool(list, max_idle=-1)


def test_no_object_is_lent_to_two_threads_at_once(threads: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    pool: ObjectPool[threading.Lock] = ObjectPool(threading.Lock, max_idle=4)

    def hammer() -> None:
        for _ in range(200):
            with pool.borrow() as lock:
                assert lock.acquire(blocking=False)
                lock.release()

    try:
        for result in [threads.start(hammer) for _ in range(32)]:
            result.result(60)
    finally:
        sys.setswitchinterval(interval)
    assert pool.stats()["lent"] == 0


def test_it_shows_its_state_and_is_listed() -> None:
    pool: ObjectPool[object] = ObjectPool(object, max_idle=3, name="shown")
    with pool.borrow():
        assert repr(pool) == "<ObjectPool 'shown' 0/3 idle, 1 lent, 1 built>"
    assert pool in named("pool")


def test_a_forked_child_starts_empty(
    in_forked_child: Callable[[Callable[[], None]], None],
) -> None:
    pool: ObjectPool[object] = ObjectPool(object)
    with pool.borrow():
        pass
    with pool._lock:

        def check() -> None:
            assert pool.stats()["idle"] == 0
            with pool.borrow():
                pass

        in_forked_child(check)
