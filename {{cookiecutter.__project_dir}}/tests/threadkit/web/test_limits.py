"""A request has a scope: the caller's limit, the route's, and the end of the answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient

from threadkit import deadline, remaining, sheddable, sleep
from threadkit.concurrency import Cancelled, background, current_scope
from threadkit.limits import time_limit
from threadkit.observability import metrics
from threadkit.runtime import REQUEST_RECORD
from threadkit.web import Blueprint, Shedding
from threadkit.web.callers import time_limit as callers_limit


def client_of(app: flask.Flask) -> FlaskClient:
    """Routes that tell their time limit, or wait for its end."""

    @app.get("/left")
    def left() -> dict[str, Any]:
        return {"remaining": remaining()}

    @app.get("/short")
    @deadline(0.02)
    def short() -> str:
        sleep(30)
        return "too late"

    @app.get("/long")
    @deadline(1000)
    def long() -> dict[str, Any]:
        return {"remaining": remaining()}

    @app.get("/endless")
    @deadline(None)
    def endless() -> dict[str, Any]:
        return {"remaining": remaining()}

    return app.test_client()


def left(client: FlaskClient, path: str = "/left", **headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    seconds: float | None = client.get(path, headers=named).get_json()["remaining"]
    return seconds


def test_a_route_has_the_usual_time(app: flask.Flask) -> None:
    assert 2 < (left(client_of(app)) or 0) <= 3


def test_a_route_of_its_own_time_gets_the_maximum_at_most(app: flask.Flask) -> None:
    assert 2 < (left(client_of(app), "/long") or 0) <= 3


def test_a_stream_has_no_limit_but_the_callers(app: flask.Flask) -> None:
    client = client_of(app)
    assert left(client, "/endless") is None
    assert (left(client, "/endless", X_Request_Timeout="2") or 9) <= 2


def test_a_deadline_that_passes_is_504(app: flask.Flask, problem: Any) -> None:
    assert problem(client_of(app).get("/short"))["status"] == 504


def test_the_smallest_of_the_callers_limits_holds(app: flask.Flask) -> None:
    seconds = left(
        client_of(app),
        grpc_timeout="2S",
        X_Envoy_Expected_Rq_Timeout_Ms="500",
        X_Request_Timeout="1.5",
    )
    assert 0 < (seconds or 0) <= 0.5


def test_a_caller_cannot_extend_the_limit(app: flask.Flask) -> None:
    assert (left(client_of(app), X_Request_Timeout="60") or 0) <= 3


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("HTTP_GRPC_TIMEOUT", "1H", 3600),
        ("HTTP_GRPC_TIMEOUT", "100m", 0.1),
        ("HTTP_GRPC_TIMEOUT", "5u", 5e-6),
        ("HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS", "250", 0.25),
        ("HTTP_X_REQUEST_TIMEOUT", "0", 0),
        ("HTTP_X_REQUEST_TIMEOUT", "1.25", 1.25),
    ],
)
def test_each_spelling_is_read(name: str, value: str, seconds: float) -> None:
    assert callers_limit({name: value}, pytest.fail) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "1e3", "5 S", "S", "9" * 40, "\u0661"])
@pytest.mark.parametrize(
    "name",
    ["HTTP_GRPC_TIMEOUT", "HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS", "HTTP_X_REQUEST_TIMEOUT"],
)
def test_a_malformed_limit_is_ignored_and_counted(name: str, value: str) -> None:
    seen: list[None] = []
    assert callers_limit({name: value}, lambda: seen.append(None)) is None
    assert len(seen) == 1


def test_malformed_limits_are_a_metric(app: flask.Flask) -> None:
    client = client_of(app)
    before = metrics.MALFORMED_LIMITS._value.get()
    assert left(client, X_Request_Timeout="soon") is not None
    assert metrics.MALFORMED_LIMITS._value.get() == before + 1


def test_the_scope_lasts_until_the_last_byte(app: flask.Flask) -> None:
    seen: list[bool] = []

    @app.get("/stream")
    def stream() -> flask.Response:
        scope = current_scope()
        assert scope is not None

        def chunks() -> Iterator[str]:
            seen.append(scope.over)
            yield "a"

        flask.g.scope = scope
        return flask.Response(chunks())

    answer = app.test_client().get("/stream")
    assert answer.data == b"a"
    answer.close()
    assert seen == [False]
    assert current_scope() is None


def test_what_still_runs_when_the_answer_is_out_is_cancelled(app: flask.Flask) -> None:
    ended = threading.Event()
    started = threading.Event()

    @app.get("/leave")
    def leave() -> str:
        from contextvars import copy_context

        def straggler() -> None:
            started.set()
            try:
                sleep(30)
            except Cancelled:
                ended.set()

        thread = threading.Thread(target=copy_context().run, args=(straggler,))
        thread.start()
        flask.current_app.extensions["straggler"] = thread
        assert started.wait(5)
        return ""

    app.test_client().get("/leave").close()
    assert ended.wait(5)
    app.extensions["straggler"].join(5)


def test_background_work_outlives_its_request(app: flask.Flask) -> None:
    go = threading.Event()

    @app.get("/later")
    def later() -> str:
        def work() -> tuple[bool, float | None]:
            go.wait(5)
            return flask.has_request_context(), remaining()

        flask.current_app.extensions["work"] = background.submit(work)
        return ""

    app.test_client().get("/later").close()
    go.set()
    has_request, seconds = app.extensions["work"].result(5)
    assert not has_request
    assert seconds is None or seconds > 3


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_deadline_that_makes_no_sense_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        deadline(seconds)


def test_a_deadline_above_the_route_is_refused() -> None:
    """There it would mark a function that nobody calls any more."""
    routes = Blueprint("routes", __name__)

    @routes.get("/")
    def view() -> None: ...

    with pytest.raises(TypeError, match="write it below"):
        deadline(1)(view)


def test_a_deadline_below_the_route_reaches_it() -> None:
    routes = Blueprint("routes", __name__)

    @routes.get("/")
    @deadline(1)
    def view() -> None: ...

    app = flask.Flask("routes", static_folder=None)
    app.register_blueprint(routes)
    assert time_limit(app.view_functions["routes.view"], usual=3, most=5) == 1


class Connection:
    """A client's connection, as gunicorn puts it into the environment."""

    def __init__(self) -> None:
        self.client, self.server = socket.socketpair()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()


def logged(app: flask.Flask, path: str, connection: Connection) -> str:
    """The status in the metrics of one request whose answer is read to its end."""
    before = counts(path)
    answer = app.test_client().get(
        path, environ_base={"gunicorn.socket": connection.server}, buffered=False
    )
    with contextlib.suppress(ConnectionResetError), contextlib.closing(answer):
        for _ in answer.iter_encoded():
            pass
    (status,) = (key for key, value in counts(path).items() if value != before.get(key))
    return status


def counts(path: str) -> dict[str, float]:
    return {
        sample.labels["status"]: sample.value
        for family in metrics.REQUESTS.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["route"] == path
    }


def leaving_stream(app: flask.Flask, connection: Connection, *, after: int, chunks: int) -> None:
    @app.get("/leaving")
    def leaving() -> flask.Response:
        record = flask.request.environ[REQUEST_RECORD]

        def produce() -> Iterator[bytes]:
            for number in range(chunks):
                if number == after:
                    connection.client.close()
                    record.client_left = True  # as the watcher does
                yield b"x"

        return flask.Response(produce())


def test_a_stream_whose_client_left_does_not_end_as_if_it_were_complete(app: flask.Flask) -> None:
    with Connection() as connection:
        leaving_stream(app, connection, after=1, chunks=3)
        answer = app.test_client().get(
            "/leaving", environ_base={"gunicorn.socket": connection.server}, buffered=False
        )
        produced = answer.iter_encoded()
        assert next(produced) == b"x"
        with pytest.raises(ConnectionResetError):
            next(produced)
        answer.close()


def test_a_client_that_left_is_499_in_the_metrics(app: flask.Flask) -> None:
    with Connection() as connection:
        leaving_stream(app, connection, after=1, chunks=3)
        assert logged(app, "/leaving", connection) == "499"


def test_a_client_that_has_got_everything_may_leave(app: flask.Flask) -> None:
    with Connection() as connection:
        leaving_stream(app, connection, after=9, chunks=3)
        connection.client.close()
        assert logged(app, "/leaving", connection) == "200"


def test_a_route_that_goes_first_is_known_by_its_path(app: flask.Flask) -> None:
    app.get("/extra/<name>")(sheddable(lambda name: name))
    app.post("/extra/<name>", endpoint="needed")(lambda name: name)
    sheds = Shedding(app).by_path
    assert sheds("GET", "/extra/a%20b")
    assert sheds("HEAD", "/extra/x")
    assert not sheds("POST", "/extra/x")
    assert not sheds("GET", "/extra")
    assert not sheds("GET", "/%ff")
    assert not sheds("BREW", "*")
