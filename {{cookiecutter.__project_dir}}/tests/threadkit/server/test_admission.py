"""Admission: at most so many run, so many wait, and a place always comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import flask
import pytest

from threadkit import arrival, remaining, sheddable, web
from threadkit.observability import metrics
from threadkit.runtime import Runtime
from threadkit.server.admission import Admission
from threadkit.server.limiter import AdaptiveLimit
from threadkit.settings import Settings


class House:
    """A service whose handlers wait until they are told to go on."""

    def __init__(self, **values: Any) -> None:
        settings = Settings(
            **{"database_url": "sqlite:///unused.db", "concurrency": 2, "queue_size": 1, **values}
        )
        self.go = threading.Event()
        self.inside = threading.Semaphore(0)
        app = flask.Flask("house", static_folder=None)
        self.fill = 0.0
        self.admission = Admission(
            app.wsgi_app,
            settings,
            is_sheddable=web.Shedding(app),
            line_fill=lambda: self.fill,
        )
        app.wsgi_app = self.admission  # type: ignore[method-assign]
        self.runtime = Runtime(settings)
        web.install(app, self.runtime)
        app.get("/wait")(self._wait)
        app.get("/stream")(self._stream)
        app.get("/fail")(self._fail)
        app.get("/extra")(sheddable(lambda: "extra"))
        self.app = app
        self.pool = ThreadPoolExecutor(16)

    def _wait(self) -> str:
        self.inside.release()
        assert self.go.wait(10)
        return "done"

    def _stream(self) -> flask.Response:
        def chunks() -> Iterator[str]:
            yield self._wait()

        return flask.Response(chunks())

    def _fail(self) -> str:
        raise ValueError

    def ask(self, path: str = "/wait") -> Future[int]:
        """The status that an answer will have."""
        return self.pool.submit(self.get, path)

    def get(self, path: str, **options: Any) -> int:
        """The status of an answer whose body is looked at, as a client does."""
        with self.app.test_client().get(path, **options) as answer:
            assert answer.data is not None
            return answer.status_code

    def stats(self) -> Mapping[str, Any]:
        return self.admission.stats()


@pytest.fixture
def house() -> Iterator[House]:
    house = House(queue_timeout=5.0, request_timeout=20.0)
    yield house
    house.go.set()
    house.pool.shutdown()
    house.runtime.close()


def full(house: House, path: str = "/wait") -> list[Future[int]]:
    """Fill every place and the line."""
    running = [house.ask(path) for _ in range(2)]
    for _ in running:
        assert house.inside.acquire(timeout=5)
    waiting = house.ask(path)
    while house.stats()["waiting"] != 1:
        assert not waiting.done()
    return [*running, waiting]


def test_one_request_too_many_is_refused_at_once(house: House) -> None:
    admitted = full(house)
    with house.app.test_client().get("/wait") as answer:
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.get_json()["type"] == "urn:problem:saturated"
    house.go.set()
    assert [future.result(5) for future in admitted] == [200, 200, 200]


def test_health_never_stands_in_line(house: House) -> None:
    full(house)
    assert house.get("/livez") == 200
    assert house.get("/readyz") == 200


def test_a_stream_holds_its_place_until_its_last_byte(house: House) -> None:
    full(house, "/stream")
    assert house.get("/stream") == 503


def test_every_place_comes_back(house: House) -> None:
    house.go.set()
    for _ in range(20):
        assert house.get("/wait") == 200
        assert house.get("/fail") == 500
        assert house.get("/nothing") == 404
        assert house.get("/stream") == 200
    assert house.stats()["inside"] == 0


def test_a_wait_ends_after_the_queue_timeout() -> None:
    house = House(queue_timeout=0.05)
    try:
        running = [house.ask() for _ in range(2)]
        for _ in running:
            assert house.inside.acquire(timeout=5)
        assert house.get("/wait") == 503
    finally:
        house.go.set()
        house.pool.shutdown()
        house.runtime.close()


def test_every_refusal_is_counted_by_its_reason(house: House) -> None:
    full(house)
    house.get("/wait")
    late = {**Stamped(1).environ, "HTTP_X_REQUEST_TIMEOUT": "0.5"}
    assert house.get("/wait", environ_base=late) == 503
    house.get("/extra")
    assert house.stats()["refused"] == {"full": 1, "waited": 0, "late": 1, "shed": 1}
    (family,) = metrics.REFUSED.collect()
    before = {sample.labels["reason"] for sample in family.samples}
    assert before == {"full", "waited", "late", "shed"}


def test_a_wait_in_vain_is_told_from_a_full_line() -> None:
    house = House(queue_timeout=0.05)
    try:
        running = [house.ask() for _ in range(2)]
        for _ in running:
            assert house.inside.acquire(timeout=5)
        assert house.get("/wait") == 503
        assert house.stats()["refused"]["waited"] == 1
    finally:
        house.go.set()
        house.pool.shutdown()
        house.runtime.close()


def test_a_sheddable_route_goes_first_when_the_line_is_half_full() -> None:
    house = House(queue_timeout=5.0, request_timeout=20.0, queue_size=2)
    try:
        assert house.get("/extra") == 200
        waiting = full(house)  # one of two waits: half full
        assert house.get("/extra") == 503
        other = house.ask()  # for others there is room
        eventually(lambda: house.stats()["waiting"] == 2)
        house.go.set()
        assert [each.result(5) for each in [*waiting, other]] == [200] * 4
        assert house.get("/extra") == 200
    finally:
        house.go.set()
        house.pool.shutdown()
        house.runtime.close()


def test_a_line_that_the_worker_keeps_counts_as_well(house: House) -> None:
    house.go.set()
    house.fill = 0.5
    assert house.get("/extra") == 503
    assert house.get("/wait") == 200
    assert house.stats()["inside"] == 0


def test_those_who_wait_in_either_line_are_a_metric(house: House) -> None:
    full(house)
    house.fill = 1.0  # of a line of one
    house.admission.publish()
    assert metrics.WAITING._value.get() == 2


def test_a_request_whose_route_has_no_time_left_is_not_run(house: House) -> None:
    """It waited in the backlog, or for a thread; the route's 20 s are over."""
    unix = Stamped(25)
    assert house.get("/wait", environ_base=unix.environ) == 503
    assert not house.inside.acquire(blocking=False)
    assert house.stats()["inside"] == 0


@pytest.mark.parametrize("limit", ["0", "0.000001"])
def test_a_request_whose_caller_gives_it_no_time_is_not_run(house: House, limit: str) -> None:
    assert house.get("/wait", headers={"X-Request-Timeout": limit}) == 504
    assert not house.inside.acquire(blocking=False)
    assert house.stats()["inside"] == 0
    assert house.stats()["refused"]["late"] == 1


def test_a_probe_is_answered_however_late_it_came(house: House) -> None:
    """A worker that has just started finds them in its backlog."""
    for path in ("/livez", "/readyz"):
        assert house.get(path, environ_base=Stamped(3600).environ) == 200


def test_the_time_already_waited_is_taken_off(house: House) -> None:
    seen: list[float | None] = []

    @house.app.get("/left")
    def left() -> str:
        seen.append(remaining())
        return ""

    house.get("/left", environ_base=Stamped(15).environ)
    assert 4 < (seen[0] or 0) <= 5


class Stamped:
    """What a worker says of a request that came over a unix socket so many seconds ago."""

    def __init__(self, seconds: float) -> None:
        self.environ = {arrival.ARRIVED: time.monotonic() - seconds}


def eventually(ask: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not ask():
        assert time.monotonic() < until


def test_aimd_lowers_the_number_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(limiter="aimd", concurrency=10)
    try:
        house.go.set()
        assert house.stats()["limiter"] == "aimd"
        monkeypatch.setattr(
            AdaptiveLimit, "observe", lambda *_, **__: 7 if house.stats()["inside"] == 0 else None
        )
        house.get("/wait")
        assert house.stats()["max_concurrent"] == 7
        assert metrics.PLACES._value.get() == 7
    finally:
        house.pool.shutdown()
        house.runtime.close()
