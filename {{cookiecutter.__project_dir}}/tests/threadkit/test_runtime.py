"""The runtime: starts once in each process, closes in reverse, and forgets nothing."""

from __future__ import annotations

import os
import threading

import pytest

from threadkit import runtime as runtimes
from threadkit.runtime import RequestRecord, Runtime
from threadkit.settings import Settings


class Recorder:
    """A resource that writes down what happens to it."""

    def __init__(self, name: str, events: list[str], *, fails: str = "") -> None:
        self.name, self.events, self.fails = name, events, fails

    def _do(self, what: str) -> None:
        self.events.append(f"{what} {self.name}")
        if self.fails == what:
            msg = f"{what} failed"
            raise OSError(msg)

    def start(self) -> None:
        self._do("start")

    def abandon(self) -> None:
        self._do("abandon")

    def close(self) -> None:
        self._do("close")


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(Settings(database_url="sqlite:///unused.db"))


def test_resources_close_in_the_reverse_order_of_their_start(runtime: Runtime) -> None:
    events: list[str] = []
    for name in "abc":
        runtime.add(name, Recorder(name, events))
    runtime.start()
    runtime.close()
    assert events == ["start a", "start b", "start c", "close c", "close b", "close a"]


def test_where_one_fails_to_start_those_before_it_are_closed(runtime: Runtime) -> None:
    events: list[str] = []
    runtime.add("a", Recorder("a", events))
    runtime.add("b", Recorder("b", events, fails="start"))
    with pytest.raises(OSError, match="start failed"):
        runtime.start()
    assert events == ["start a", "start b", "close a"]
    assert not runtime.started


def test_every_resource_is_closed_and_all_errors_come_out(runtime: Runtime) -> None:
    events: list[str] = []
    for name in "abc":
        runtime.add(name, Recorder(name, events, fails="close"))
    runtime.start()
    with pytest.raises(ExceptionGroup) as caught:
        runtime.close()
    assert len(caught.value.exceptions) == 3
    assert "while closing 'c'" in caught.value.exceptions[0].__notes__


def test_many_first_requests_start_a_resource_once(runtime: Runtime) -> None:
    events: list[str] = []
    runtime.add("a", Recorder("a", events))
    barrier = threading.Barrier(16)

    def first() -> None:
        barrier.wait(5)
        runtime.start()

    threads = [threading.Thread(target=first) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert events == ["start a"]
    runtime.close()


def test_a_forked_child_abandons_and_starts_its_own(runtime: Runtime) -> None:
    events: list[str] = []
    runtime.add("a", Recorder("a", events))
    runtime.start()
    runtime.requests.add(RequestRecord("1", "GET", "/"))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        runtime.start()
        os.write(writing, f"{events} {len(runtime.requests)}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 1000) == b"['start a', 'abandon a', 'start a'] 0"
    assert events == ["start a"]
    runtime.close()
    os.close(reading)
    os.close(writing)


def test_nothing_can_be_added_once_it_runs(runtime: Runtime) -> None:
    runtime.start()
    with pytest.raises(RuntimeError, match="while the app is built"):
        runtime.add("late", Recorder("late", []))
    runtime.close()


def test_a_closed_runtime_says_how_to_go_on(runtime: Runtime) -> None:
    runtime.start()
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeError, match=r"create_app\(\)"):
        runtime.start()


def test_readiness_names_every_check_that_fails(runtime: Runtime) -> None:
    def broken() -> str:
        msg = "no idea"
        raise LookupError(msg)

    runtime.add_check("fine", lambda: None)
    runtime.add_check("away", lambda: "it is away")
    runtime.add_check("broken", broken)
    readiness = runtime.readiness()
    assert not readiness.ready
    assert readiness.failures == {"away": "it is away", "broken": "LookupError: no idea"}
    assert readiness.document()["status"] == 503


def test_a_worker_that_stops_is_not_ready(runtime: Runtime) -> None:
    assert runtime.readiness().ready
    runtime.set_not_ready("worker", "it is stopping")
    assert runtime.readiness().failures == {"worker": "it is stopping"}


def test_without_an_app_the_remedy_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"create_app\(\)"):
        runtimes.current()


def test_a_second_live_app_is_refused_until_the_first_is_closed(runtime: Runtime) -> None:
    second = Runtime(runtime.settings)
    runtimes.install(runtime)
    with pytest.raises(RuntimeError, match="already has a live app"):
        runtimes.install(second)
    runtime.close()
    runtimes.install(second)
    assert runtimes.current() is second
    second.close()


def test_an_app_that_nobody_holds_is_not_live(runtime: Runtime) -> None:
    forgotten = Runtime(runtime.settings)
    runtimes.install(forgotten)
    del forgotten
    runtimes.install(runtime)
    runtime.close()


def test_its_repr_tells_its_state(runtime: Runtime) -> None:
    runtime.add("database", Recorder("database", []))
    assert repr(runtime) == "<Runtime not started: database; 0 requests>"
    runtime.start()
    assert "started" in repr(runtime)
    runtime.close()
    assert "closed" in repr(runtime)
