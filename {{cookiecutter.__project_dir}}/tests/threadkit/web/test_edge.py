"""What every request is checked for and every answer carries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from threadkit import web
from threadkit.runtime import Runtime
from threadkit.settings import Settings


def service(**values: Any) -> tuple[flask.Flask, Runtime]:
    runtime = Runtime(Settings(database_url="sqlite:///unused.db", **values))
    app = flask.Flask("edge", static_folder=None)
    web.install(app, runtime)

    @app.get("/where")
    def where() -> dict[str, Any]:
        return {"url": flask.request.url, "client": flask.request.remote_addr}

    return app, runtime


def test_a_well_formed_request_id_is_taken_over(client: FlaskClient) -> None:
    answer = client.get("/notes", headers={"X-Request-ID": "abc-1.2_3"})
    assert answer.headers["X-Request-ID"] == "abc-1.2_3"


@pytest.mark.parametrize("bad", ["", "a b", "a\tb", "x" * 129, "\u00e9", "a;b"])
def test_any_other_request_id_is_replaced(client: FlaskClient, bad: str) -> None:
    answer = client.get("/notes", headers={"X-Request-ID": bad})
    assert len(answer.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize("path", ["/notes", "/nothing", "/livez", "/docs", "/openapi.json"])
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"


def test_a_host_that_is_not_trusted_is_refused_except_for_health(problem: Any) -> None:
    app, _ = service(trusted_hosts=["example.com", ".example.org"])
    client = app.test_client()
    assert problem(client.get("/where", headers={"Host": "evil.test"}))["status"] == 400
    for host in ("example.com", "EXAMPLE.com", "example.com.", "Example.com.:8000"):
        assert client.get("/where", headers={"Host": host}).status_code == 200, host
    for host in ("example.com..", "evil.test.", "xexample.com"):
        assert client.get("/where", headers={"Host": host}).status_code == 400, host
    assert client.get("/where", headers={"Host": "api.example.org:8000"}).status_code == 200
    assert client.get("/livez", headers={"Host": "10.0.0.7:8000"}).status_code == 200


@pytest.mark.parametrize(("hops", "seen"), [(0, "127.0.0.1"), (1, "3.3.3.3"), (2, "2.2.2.2")])
def test_forwarded_addresses_count_as_far_as_the_proxies_are_trusted(hops: int, seen: str) -> None:
    app, _ = service(trusted_proxies=hops)
    headers = {"X-Forwarded-For": "1.1.1.1, 2.2.2.2, 3.3.3.3"}
    assert app.test_client().get("/where", headers=headers).get_json()["client"] == seen


def test_readiness_tells_what_is_missing(runtime: Runtime, client: FlaskClient) -> None:
    assert client.get("/readyz").get_json() == {"status": "ready"}
    runtime.add_check("database", lambda: "it is away")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["checks"] == {"database": "it is away"}
    assert client.get("/livez").status_code == 200


def test_one_line_a_request_and_nothing_in_it_is_forged(
    client: FlaskClient, capfdbinary: Any
) -> None:
    client.get('/notes/7?x=%0a{"event":"forged"}', headers={"X-Request-ID": "mine"}).close()
    client.get("/a%0d%0a%1b[31mb").close()
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    first, second = [line for line in lines if line["event"] == "request"]
    assert first["method"] == "GET"
    assert first["path"] == "/notes/7"
    assert first["route"] == "/notes/<int:note_id>"
    assert first["status"] == 200
    assert first["request_id"] == "mine"
    assert first["duration_ms"] >= 0
    assert second["route"] is None
    assert second["path"] == "/a\r\n\x1b[31mb"


def test_who_was_cut_off_with_the_worker_is_not_logged_again(
    runtime: Runtime, capfdbinary: Any
) -> None:
    app = flask.Flask("late", static_folder=None)
    web.install(app, runtime)

    @app.get("/late")
    def late() -> str:
        (record,) = runtime.requests
        record.dropped = True
        return ""

    app.test_client().get("/late").close()
    assert not runtime.requests
    assert b'"event":"request"' not in capfdbinary.readouterr().out


def test_a_request_is_in_flight_until_its_last_byte(runtime: Runtime) -> None:
    app = flask.Flask("stream", static_folder=None)
    web.install(app, runtime)
    seen: list[int] = []

    @app.get("/stream")
    def stream() -> flask.Response:
        def chunks() -> Iterator[str]:
            seen.append(len(runtime.requests))
            yield "a"
            seen.append(len(runtime.requests))

        return flask.Response(chunks())

    answer = app.test_client().get("/stream")
    assert answer.data == b"a"
    answer.close()
    assert seen == [1, 1]
    assert not runtime.requests


def test_a_response_that_breaks_off_is_still_closed_and_logged(
    runtime: Runtime, capfdbinary: Any
) -> None:
    app = flask.Flask("broken", static_folder=None)
    web.install(app, runtime)

    @app.get("/broken")
    def broken() -> flask.Response:
        def chunks() -> Iterator[str]:
            yield "a"
            msg = "in the middle"
            raise ValueError(msg)

        return flask.Response(chunks())

    chunks = app.wsgi_app(EnvironBuilder("/broken").get_environ(), lambda *_: lambda _: None)
    with pytest.raises(ValueError, match="in the middle"):
        list(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert not runtime.requests
    assert b'"route":"/broken"' in capfdbinary.readouterr().out


def test_the_documentation_needs_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "//" not in page.get_data(as_text=True)
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon-32x32.png"):
        with client.get(f"/docs/{asset}") as answer:
            assert answer.status_code == 200
    assert client.get("/docs/../settings.py").status_code == 404
    assert client.get("/docs/VERSION").status_code == 404
