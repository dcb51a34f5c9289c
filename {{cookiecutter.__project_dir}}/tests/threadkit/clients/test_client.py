"""A client waits no longer than its scope, and tells the upstream what it may know."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import BaseModel

from threadkit import CancelScope, DeadlineExceeded, fail_after
from threadkit.clients import BadAnswer, Client, UpstreamAway
from threadkit.concurrency import named, timeline
from threadkit.context import request_id


class Price(BaseModel):
    """An answer."""

    price_cents: int


class Upstream(BaseHTTPRequestHandler):
    """Answers by path, and remembers the headers."""

    protocol_version = "HTTP/1.1"
    seen: dict[str, str]

    def do_GET(self) -> None:
        Upstream.seen = dict(self.headers.items())
        name = self.path.strip("/")
        body = b'{"price_cents": 5}' if name == "200" else b"nonsense"
        self.send_response(int(name) if name.isdigit() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        """Keep quiet."""


@pytest.fixture
def upstream() -> Iterator[Client]:
    """A client of a server that answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    client = Client(f"http://127.0.0.1:{server.server_port}", name="prices")
    yield client
    client.close()
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture
def silent() -> Iterator[Client]:
    """A client of a server that accepts and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield client
        client.close()


def test_an_answer_becomes_a_model(upstream: Client) -> None:
    assert upstream.get("/200", answer=Price) == Price(price_cents=5)


def test_another_answer_is_a_bad_one(upstream: Client) -> None:
    with pytest.raises(BadAnswer, match="something else than Price"):
        upstream.get("/text", answer=Price)
    with pytest.raises(BadAnswer, match="answered 404"):
        upstream.get("/404", answer=Price)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_upstream_in_trouble_is_away(upstream: Client, status: int) -> None:
    with pytest.raises(UpstreamAway, match=str(status)):
        upstream.get(f"/{status}", answer=Price)


def test_the_request_id_and_the_time_left_go_along(upstream: Client) -> None:
    token = request_id.set("abc")
    with fail_after(2):
        upstream.get("/200", answer=Price)
    request_id.reset(token)
    assert Upstream.seen["X-Request-ID"] == "abc"
    assert 0 < float(Upstream.seen["X-Request-Timeout"]) <= 2


def test_a_silent_upstream_costs_no_more_than_the_deadline(silent: Client) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded), fail_after(0.1):
        silent.get("/", answer=Price)
    assert time.monotonic() - began < 2


def test_a_scope_that_is_over_calls_nobody(upstream: Client) -> None:
    with CancelScope() as scope:
        scope.cancel("the client left")
        upstream.get("/200", answer=Price)
    assert scope.cancelled_caught


def test_a_refused_connection_is_an_upstream_that_is_away() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpstreamAway):
        Client(f"http://127.0.0.1:{port}").get("/", answer=Price)


def test_calls_are_counted_and_in_the_timeline_of_their_request(upstream: Client) -> None:
    line = timeline.Timeline()
    token = timeline.current.set(line)
    try:
        upstream.request("GET", "/any?q=secret")
        with pytest.raises(UpstreamAway):
            upstream.request("GET", "/503")
    finally:
        timeline.current.reset(token)
    assert [span.name for span in line.spans] == [
        f"{upstream.name}: GET /any",
        f"{upstream.name}: GET /503",
    ]
    assert line.open_span() is None
    assert upstream in named("client")
    assert upstream.stats() == {"in_flight": 0, "max_connections": 10, "calls": 2, "failed": 1}


def test_a_client_without_an_address_says_what_to_set() -> None:
    with pytest.raises(RuntimeError, match="pass a whole address"):
        Client(name="nobody").get("/v1", answer=Price)
    with pytest.raises(ValueError, match="not both"):
        Client("http://a", base_url_setting="A_URL")


def test_its_repr_tells_its_name_and_size() -> None:
    assert repr(Client(name="prices", max_connections=3)) == (
        "<Client 'prices', at most 3 connections>"
    )
