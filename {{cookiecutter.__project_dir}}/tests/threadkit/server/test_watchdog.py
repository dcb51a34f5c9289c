"""The watchdog sees who ignores a deadline, and only that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask
import pytest
from structlog.testing import capture_logs

from threadkit import web
from threadkit.concurrency import CancelScope
from threadkit.runtime import RequestRecord, Runtime
from threadkit.server.watchdog import Watchdog, stacks
from threadkit.settings import Settings
from threadkit.testing import no_leaked_threads  # noqa: F401 - autouse

GRACE = 5.0


class Kennel:
    """A watchdog that is asked to look at a time of our choosing."""

    def __init__(self, folder: Path | None) -> None:
        settings = Settings(database_url="sqlite:///unused.db", watchdog_grace=GRACE)
        self.runtime = Runtime(settings)
        self.watchdog = Watchdog(self.runtime, folder=lambda: folder)
        self.replaced = self.left = 0
        self.watchdog.replace_by(self._replace, self._leave)

    def _replace(self) -> None:
        self.replaced += 1

    def _leave(self) -> None:
        self.left += 1

    def request(self, name: str = "1", **values: Any) -> RequestRecord:
        """One in flight whose time is over."""
        scope = CancelScope(0)
        record = RequestRecord(id=name, method="GET", path="/", root=scope, scope=scope, **values)
        self.runtime.requests.add(record)
        return record

    def look(self, after: float) -> list[Any]:
        with capture_logs() as lines:
            self.watchdog._look(1000 + after)
        return lines


@pytest.fixture
def kennel(tmp_path: Path) -> Kennel:
    return Kennel(tmp_path)


def test_a_request_that_ignores_its_deadline_has_the_worker_replaced_once(kennel: Kennel) -> None:
    kennel.request()
    assert kennel.look(0) == []
    assert kennel.look(GRACE - 0.1) == []
    said = kennel.look(GRACE)
    assert [line["event"] for line in said] == [
        "a handler ignores its deadline",
        "this worker is being replaced",
    ]
    assert said[0]["requests"][0]["path"] == "/"
    assert "test_watchdog.py" in said[0]["stacks"]
    assert "ignore their deadline" in kennel.runtime.readiness().failures["watchdog"]
    assert kennel.look(GRACE + 1) == []
    assert kennel.replaced == 1
    assert kennel.watchdog.stats() == {"stuck": 1, "stuck_total": 1}


def test_the_stacks_are_written_once(kennel: Kennel) -> None:
    kennel.request()
    kennel.look(0)
    kennel.look(GRACE)
    kennel.request("2")
    kennel.look(GRACE)
    (line,) = kennel.look(2 * GRACE)
    assert line["requests"][0]["id"] == "2"
    assert "stacks" not in line


def test_who_still_has_time_or_has_answered_is_not_stuck(kennel: Kennel) -> None:
    kennel.request().scope = CancelScope(3600)
    kennel.request("2").scope = CancelScope()
    answered = kennel.request("3")
    kennel.look(0)
    answered.scope = None
    assert kennel.look(100) == []
    assert kennel.replaced == 0
    assert kennel.runtime.readiness().ready


def test_the_clients_pace_is_not_the_handlers(kennel: Kennel) -> None:
    """Or a slow client could end a worker."""
    slow = kennel.request(with_client=True)
    kennel.look(0)
    assert kennel.look(100) == []
    slow.with_client = False  # the handler goes on, and its grace begins
    assert kennel.look(101) == []
    assert kennel.look(101 + GRACE) != []


def test_a_request_that_is_only_late_goes_on(kennel: Kennel) -> None:
    late = kennel.request()
    kennel.look(0)
    kennel.look(GRACE - 1)
    kennel.runtime.requests.discard(late)
    kennel.look(GRACE)
    again = kennel.request("2")
    assert kennel.look(GRACE + 1) == []
    kennel.runtime.requests.discard(again)


def test_it_ends_the_worker_once_only_stuck_requests_are_left(kennel: Kennel) -> None:
    kennel.request()
    healthy = kennel.request("2")
    healthy.scope = CancelScope(3600)
    kennel.look(0)
    kennel.look(GRACE)
    kennel.look(GRACE + 60)
    assert kennel.left == 0
    kennel.runtime.requests.discard(healthy)
    kennel.look(GRACE + 60)
    kennel.look(GRACE + 61)
    assert kennel.left == 1


def test_connections_that_are_kept_alive_get_a_moment(kennel: Kennel) -> None:
    """And DRAIN_DELAY before that, 1 s by default."""
    kennel.request()
    kennel.look(0)
    kennel.look(GRACE)
    kennel.look(GRACE + 2.9)
    assert kennel.left == 0
    kennel.look(GRACE + 3)
    assert kennel.left == 1


def test_at_most_three_a_minute_over_all_workers(tmp_path: Path) -> None:
    kennels = [Kennel(tmp_path) for _ in range(4)]
    for each in kennels:
        each.request()
        each.look(0)
        each.look(GRACE)
    assert [each.replaced for each in kennels] == [1, 1, 1, 0]
    assert not kennels[3].runtime.readiness().ready
    (tmp_path / "replacements.budget").unlink()  # a minute later
    kennels[3].look(GRACE + 1)
    assert kennels[3].replaced == 1


def test_without_a_server_it_only_says_what_it_sees(tmp_path: Path) -> None:
    kennel = Kennel(tmp_path)
    kennel.watchdog._replace = None
    kennel.request()
    kennel.look(0)
    (line,) = kennel.look(GRACE)
    assert line["event"] == "a handler ignores its deadline"
    assert not kennel.watchdog.replacing
    assert not list(tmp_path.iterdir())


def test_its_thread_sees_a_real_request(tmp_path: Path) -> None:
    settings = Settings(
        database_url="sqlite:///unused.db", request_timeout=0.05, watchdog_grace=0.1
    )
    runtime = Runtime(settings)
    watchdog = Watchdog(runtime, folder=lambda: tmp_path)
    runtime.add("watchdog", watchdog)
    replaced, go = threading.Event(), threading.Event()
    watchdog.replace_by(replaced.set, lambda: None)
    app = flask.Flask("house", static_folder=None)
    web.install(app, runtime)

    @app.get("/stuck")
    def stuck() -> str:
        go.wait(10)
        return ""

    with ThreadPoolExecutor(1) as pool:
        pool.submit(app.test_client().get, "/stuck")
        try:
            assert replaced.wait(10)
            assert "replacing the worker, 1 stuck" in repr(watchdog).replace(">", "")
        finally:
            go.set()
    runtime.close()
    assert "asleep" in repr(watchdog)


def test_a_body_that_trickles_in_is_the_clients_time(tmp_path: Path) -> None:
    settings = Settings(database_url="sqlite:///unused.db")
    runtime = Runtime(settings)
    app = flask.Flask("house", static_folder=None)
    web.install(app, runtime)
    seen: list[bool] = []

    class Trickle:
        def read(self, count: int) -> bytes:
            (record,) = runtime.requests
            seen.append(record.with_client)
            return b"x" * min(count, 1)

    @app.post("/read")
    def read() -> str:
        data = flask.request.get_data()
        (record,) = runtime.requests
        seen.append(record.with_client)
        return str(len(data))

    overrides = {"wsgi.input": Trickle(), "CONTENT_LENGTH": "3"}
    with app.test_client().post("/read", environ_overrides=overrides) as answer:
        assert answer.data == b"3"
    assert seen == [True, True, True, False]
    runtime.close()


def test_every_threads_stack_is_in_the_text() -> None:
    go, up = threading.Event(), threading.Event()

    def wait_here() -> None:
        up.set()
        go.wait(10)

    thread = threading.Thread(target=wait_here, name="one-that-waits")
    thread.start()
    try:
        assert up.wait(5)
        text = stacks()
    finally:
        go.set()
        thread.join(5)
    assert "one-that-waits:" in text
    assert "in wait_here" in text
    assert "MainThread:" in text


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """No test here waits for a grace of five seconds."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < GRACE * 3
