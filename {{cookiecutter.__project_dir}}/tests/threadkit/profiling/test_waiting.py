"""What threads wait for, over time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from threadkit.profiling import tracing, waiting
from threadkit.profiling.locks import ProfiledLock
from threadkit.profiling.locks import take as mutex
from threadkit.profiling.window import Window
from threadkit.runtime import RequestRecord


@pytest.fixture
def blocked() -> Iterator[threading.Thread]:
    lock = threading.Lock()
    lock.acquire()

    def wants_the_lock() -> None:
        lock.acquire()

    thread = threading.Thread(target=wants_the_lock, name="blocked")
    thread.start()
    yield thread
    lock.release()
    thread.join(10)


def test_block_counts_the_wait_once_and_its_time_in_full(blocked: threading.Thread) -> None:
    record = RequestRecord("id", "PUT", "/x", thread_id=blocked.ident or 0, route="/x/<id>")
    profile = waiting.block(Window(0.5, hz=50), [record])
    mine = {tags: v for (_, tags), v in profile.samples.items() if ("thread", "blocked") in tags}
    (tags,) = mine
    assert dict(tags) == {
        "thread": "blocked",
        "state": "lock",
        "endpoint": "/x/<id>",
        "method": "PUT",
    }
    count, delay = mine[tags]
    assert count == 1
    assert 0.4e9 < delay < 3e9
    assert [each.type for each in profile.types] == ["contentions", "delay"]


def test_wall_has_every_thread(blocked: threading.Thread) -> None:
    profile = waiting.wall(Window(0.2, hz=50), [])
    seen = {dict(tags)["thread"] for _, tags in profile.samples}
    assert "blocked" in seen
    assert threading.current_thread().name not in seen  # the one that looks


def test_a_trace_has_a_row_a_thread_and_bars_within_bars(blocked: threading.Thread) -> None:
    record = RequestRecord("id-1", "GET", "/x", thread_id=blocked.ident or 0, route="/x")
    events = tracing.events(Window(0.2, hz=50), [record])
    rows = {e["args"]["name"]: e["tid"] for e in events if e["name"] == "thread_name"}
    mine = [e for e in events if e["ph"] == "X" and e["tid"] == rows["blocked"]]
    assert mine[0]["name"] == "GET /x id-1"
    assert "[lock]" in {e["name"] for e in mine}
    inner = next(e for e in mine if e["name"].endswith("wants_the_lock"))
    assert inner["ts"] >= mine[0]["ts"]
    assert inner["ts"] + inner["dur"] <= mine[0]["ts"] + mine[0]["dur"] + 1
    assert inner["dur"] > 50_000


class TestProfiledLock:
    """A lock that keeps accounts of who held it while others waited."""

    def test_the_holder_is_charged_with_the_others_wait(self) -> None:
        lock = ProfiledLock("orders")
        threads = [threading.Thread(target=lock.acquire, args=(True, 10)) for _ in range(2)]

        def holds_it() -> None:
            with lock:
                for thread in threads:
                    thread.start()
                while len(lock._since) < 2:
                    threading.Event().wait(0.001)
                threading.Event().wait(0.05)

        holds_it()
        threads[0].join(0.2)
        lock.release()
        for thread in threads:
            thread.join(10)
        lock.release()
        charged = {
            stack[0].name: values
            for (stack, tags), values in mutex().samples.items()
            if ("lock", "orders") in tags
        }
        name = next(n for n in charged if n.endswith("holds_it"))
        assert charged[name][0] == 2
        assert charged[name][1] >= 2 * 0.05e9
        assert repr(lock) == "<ProfiledLock 'orders' unlocked, 0 waiting>"

    def test_it_behaves_like_a_lock(self) -> None:
        lock = ProfiledLock("plain")
        assert lock.acquire()
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0.01)
        assert lock.locked()
        lock.release()
        assert not lock.locked()
        with pytest.raises(RuntimeError):
            lock.release()

    def test_nobody_is_charged_where_nobody_waits(self) -> None:
        lock = ProfiledLock("free")
        with lock:
            pass
        assert lock.waited() == {}
