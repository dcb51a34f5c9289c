"""Claims about CopyOnWriteMap: reads of snapshots, atomic writes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from threadkit.concurrency import CopyOnWriteMap, named


def test_it_reads_like_a_dict() -> None:
    numbers = CopyOnWriteMap({"a": 1}, name="numbers")
    numbers["b"] = 2
    numbers.update({"c": 3})
    assert (numbers["a"], numbers.get("b"), numbers.get("x"), numbers.get("x", 0)) == (
        1,
        2,
        None,
        0,
    )
    assert list(numbers) == ["a", "b", "c"]
    assert "a" in numbers
    assert len(numbers) == 3
    del numbers["a"]
    assert numbers.pop("b", None) == 2
    assert numbers.pop("b", None) is None
    with pytest.raises(KeyError):
        numbers["a"]
    with pytest.raises(KeyError):
        del numbers["a"]


def test_load_or_store_is_atomic(threads: Any) -> None:
    for _ in range(50):
        shared: CopyOnWriteMap[str, int] = CopyOnWriteMap()
        go = threading.Barrier(8)

        def race(
            me: int, shared: CopyOnWriteMap[str, int] = shared, go: threading.Barrier = go
        ) -> tuple[int, bool]:
            go.wait(5)
            return shared.load_or_store("key", me)

        answers = [threads.start(race, me) for me in range(8)]
        results = [answer.result(5) for answer in answers]
        assert [loaded for _, loaded in results].count(False) == 1
        assert {value for value, _ in results} == {shared["key"]}
    threads.join()


def test_compare_and_swap_loses_no_update(threads: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    counter = CopyOnWriteMap({"n": 0, "other": 0})

    def count(me: int) -> None:
        for round_ in range(50):
            while True:
                seen = counter["n"]
                if counter.compare_and_swap("n", seen, seen + 1):
                    break
            counter[f"{me}"] = round_

    try:
        for result in [threads.start(count, me) for me in range(32)]:
            result.result(60)
    finally:
        sys.setswitchinterval(interval)
    assert counter["n"] == 32 * 50


def test_values_are_never_compared_under_the_lock() -> None:
    shared: CopyOnWriteMap[str, Any] = CopyOnWriteMap()

    class Nosy:
        def __eq__(self, other: object) -> bool:
            shared["seen"] = True  # would deadlock
            return True

        __hash__ = None  # type: ignore[assignment]

    shared["key"] = Nosy()
    assert shared.compare_and_swap("key", 1, 2)
    assert shared["seen"] is True
    assert not shared.compare_and_swap("none", 1, 2)
    assert not shared.compare_and_delete("key", 1)
    assert shared.compare_and_delete("key", 2)
    assert not shared.compare_and_delete("key", 2)


def test_values_that_die_may_use_the_map() -> None:
    """The last reference to an old value must not go while the lock is held."""
    shared: CopyOnWriteMap[str, Any] = CopyOnWriteMap()

    class Value:
        def __del__(self) -> None:
            shared["died"] = True

    shared["a"] = Value()
    shared["a"] = 1
    shared["b"] = Value()
    del shared["b"]
    shared["c"] = Value()
    shared.update({"c": 2})
    assert shared["died"]


def test_range_and_snapshot_do_not_see_later_writes() -> None:
    shared = CopyOnWriteMap({"a": 1, "b": 2})
    snapshot = shared.snapshot()
    seen = []
    for key, value in shared.range():
        seen.append((key, value))
        shared[f"{key}{key}"] = value
        shared.pop("b", None)
    assert seen == [("a", 1), ("b", 2)]
    assert dict(snapshot) == {"a": 1, "b": 2}
    with pytest.raises(TypeError):
        snapshot["a"] = 2  # type: ignore[index]


def test_it_shows_its_state_and_is_listed() -> None:
    shared = CopyOnWriteMap({1: 1}, name="shown")
    shared[2] = 2
    assert repr(shared) == "<CopyOnWriteMap 'shown' 2 entries, 1 writes>"
    assert shared.stats() == {"entries": 2, "writes": 1}
    assert shared in named("map")


def test_a_forked_child_holds_what_it_held_and_can_write(
    in_forked_child: Callable[[Callable[[], None]], None],
) -> None:
    shared = CopyOnWriteMap({1: 1})
    with shared._lock:

        def check() -> None:
            shared[2] = 2
            assert dict(shared.range()) == {1: 1, 2: 2}

        in_forked_child(check)
