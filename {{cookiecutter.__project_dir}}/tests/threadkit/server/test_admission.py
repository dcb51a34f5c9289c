"""Admission: at most so many run, so many wait, and a place always comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import flask
import pytest

from threadkit import web
from threadkit.runtime import Runtime
from threadkit.server.admission import Admission
from threadkit.settings import Settings


class House:
    """A service whose handlers wait until they are told to go on."""

    def __init__(self, **values: Any) -> None:
        settings = Settings(
            database_url="sqlite:///unused.db", concurrency=2, queue_size=1, **values
        )
        self.go = threading.Event()
        self.inside = threading.Semaphore(0)
        app = flask.Flask("house", static_folder=None)
        self.admission = Admission(app.wsgi_app, settings)
        app.wsgi_app = self.admission  # type: ignore[method-assign]
        self.runtime = Runtime(settings)
        web.install(app, self.runtime)
        app.get("/wait")(self._wait)
        app.get("/stream")(self._stream)
        app.get("/fail")(self._fail)
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

    def get(self, path: str) -> int:
        """The status of an answer whose body is looked at, as a client does."""
        with self.app.test_client().get(path) as answer:
            assert answer.data is not None
            return answer.status_code

    def stats(self) -> dict[str, float]:
        return self.admission._places.stats()


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
