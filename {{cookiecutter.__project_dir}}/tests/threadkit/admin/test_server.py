"""The admin address answers at the service's worst, whatever clients do to it."""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from threadkit import listeners
from threadkit.admin import AdminServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Address = tuple[str, int]
Serve = Callable[..., tuple[AdminServer, Address]]


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with its path, query and body."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    text = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['QUERY_STRING']} "
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode() + body]


def ask(address: Address, request: bytes, *, timeout: float = 10) -> bytes:
    """All that comes back for ``request``, until the connection ends."""
    with socket.create_connection(address, timeout) as connection:
        connection.sendall(request)
        return everything(connection)


def everything(connection: socket.socket) -> bytes:
    answer = b""
    while data := connection.recv(65_536):
        answer += data
    return answer


def get(address: Address, path: str = "/livez") -> bytes:
    return ask(address, f"GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n".encode())


@contextmanager
def clients(address: Address, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have sent ``sent`` and nothing more."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(address, 10))
            connection.sendall(sent)
            made.append(connection)
        yield made


class Gate:
    """An application that holds every request but the probes until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/slow":
            self.entered.release()
            self.open.wait(30)
        return hello(environ, start_response)


def test_a_request_is_answered_and_the_connection_ends(serve: Serve) -> None:
    _, address = serve(hello)
    answer = get(address, "/path?x=1")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nGET /path x=1 ")


def test_a_body_may_come_later_than_its_head(serve: Serve) -> None:
    _, address = serve(hello)
    with socket.create_connection(address, 10) as connection:
        connection.sendall(b"POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\n")
        connection.sendall(b"late")
        assert everything(connection).endswith(b"late")


def test_a_head_may_come_in_pieces(serve: Serve) -> None:
    _, address = serve(hello)
    with socket.create_connection(address, 10) as connection:
        for piece in (b"GET /pie", b"ces HTTP/1.0\r\n", b"X: y\r\n", b"\r\n"):
            connection.sendall(piece)
        assert everything(connection).endswith(b"GET /pieces  ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"\x00\xff\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.0\r\n\r\n", b"414"),
        (b"GET / HTTP/1.0\r\nX: " + b"a" * 40_000, b"431"),
    ],
    ids=["nonsense", "version", "bytes", "line", "head"],
)
def test_what_is_not_a_request_is_refused_in_json(
    serve: Serve, request_: bytes, status: bytes
) -> None:
    _, address = serve(hello)
    answer = ask(address, request_)
    assert answer.startswith(b"HTTP/1.0 " + status)
    assert b"application/problem+json" in answer
    assert get(address).startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\n"], ids=["silent", "half a head"])
def test_clients_that_send_nothing_keep_nobody_waiting(serve: Serve, sent: bytes) -> None:
    _, address = serve(hello)
    with clients(address, 50, sent):
        started = time.monotonic()
        assert get(address).startswith(b"HTTP/1.0 200")
        assert time.monotonic() - started < 2


def test_a_silent_client_is_dropped_when_patience_ends(serve: Serve) -> None:
    _, address = serve(hello, patience=0.2)
    with clients(address, 3, b"GET ") as silent:
        for connection in silent:
            assert everything(connection) == b""


def test_a_client_that_trickles_its_body_is_dropped_when_patience_ends(serve: Serve) -> None:
    ended = threading.Event()

    def reading(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return hello(environ, start_response)
        finally:
            ended.set()

    _, address = serve(reading, patience=0.5)
    with clients(address, 1, b"POST / HTTP/1.0\r\nContent-Length: 999\r\n\r\n") as (trickling,):
        until = time.monotonic() + 10
        while not ended.wait(0.1) and time.monotonic() < until:
            trickling.send(b"x")
        assert ended.is_set()


def test_more_silent_clients_than_are_kept_push_out_the_oldest(serve: Serve) -> None:
    _, address = serve(hello)
    with clients(address, 80, b"GET ") as silent:
        assert get(address).startswith(b"HTTP/1.0 200")
        assert everything(silent[0]) == b""


def test_busy_exchanges_leave_places_for_the_probes(serve: Serve) -> None:
    gate = Gate()
    server, address = serve(gate)
    try:
        with clients(address, 6, b"GET /slow HTTP/1.0\r\n\r\n"):
            for _ in range(6):
                assert gate.entered.acquire(timeout=10)
            refused = get(address, "/slow")
            assert refused.startswith(b"HTTP/1.0 503")
            assert b"Retry-After" in refused
            assert get(address, "/livez").startswith(b"HTTP/1.0 200")
            assert get(address, "/readyz").startswith(b"HTTP/1.0 200")
            assert repr(server).startswith("<AdminServer serving, ")
    finally:
        gate.open.set()


def test_a_client_that_does_not_read_holds_its_thread_no_longer_than_patience(
    serve: Serve,
) -> None:
    def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 50_000_000]

    server, address = serve(large, patience=0.3)
    with clients(address, 4, b"GET / HTTP/1.0\r\n\r\n"):
        wait_for(lambda: named("admin-exchange"))
        wait_for(lambda: not named("admin-exchange"))
    assert "serving" in repr(server)


def test_a_client_that_leaves_harms_nobody(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    _, address = serve(gate)
    with clients(address, 3, b"GET /slow HTTP/1.0\r\n\r\n"):
        for _ in range(3):
            assert gate.entered.acquire(timeout=10)
    gate.open.set()
    assert get(address).startswith(b"HTTP/1.0 200")
    wait_for(lambda: not named("admin-exchange"))
    assert "Traceback" not in "".join(capfd.readouterr())


def test_an_application_that_fails_midway_is_logged_and_survived(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    def breaking(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"some"
        msg = "midway"
        raise ValueError(msg)

    _, address = serve(breaking)
    assert get(address).endswith(b"some")
    wait_for(lambda: not named("admin-exchange"))
    assert "midway" in capfd.readouterr().out
    assert get(address).endswith(b"some")


def test_close_ends_every_thread_and_leaves_the_shared_listener_open(serve: Serve) -> None:
    gate = Gate()
    listener = listeners.listen("127.0.0.1", 0)
    first, address = serve(gate, listener=listener)
    with clients(address, 5, b"GET "), clients(address, 2, b"GET /slow HTTP/1.0\r\n\r\n"):
        for _ in range(2):
            assert gate.entered.acquire(timeout=10)
        gate.open.set()
        first.close()
    assert named("admin") == []
    assert repr(first) == "<AdminServer not serving, 0 exchanges>"
    second, _ = serve(hello, listener=listener)
    assert get(address).startswith(b"HTTP/1.0 200")
    second.close()


def test_a_client_that_has_connected_is_answered_even_while_the_server_closes(
    serve: Serve,
) -> None:
    server, address = serve(hello)
    with clients(address, 2, b"GET /livez HTTP/1.0\r\n") as (asking, silent):
        wait_for(lambda: len(server._waiting) == 2)
        closing = threading.Thread(target=server.close, name="closing")
        closing.start()
        asking.sendall(b"\r\n")
        assert everything(asking).startswith(b"HTTP/1.0 200")
        closing.join(10)
        assert everything(silent) == b""
    assert named("admin") == []


def test_close_names_a_thread_that_does_not_end(serve: Serve) -> None:
    gate = Gate()
    server, address = serve(gate, patience=0.2)
    with clients(address, 1, b"GET /slow HTTP/1.0\r\n\r\n"):
        assert gate.entered.acquire(timeout=10)
        with pytest.raises(RuntimeError, match="admin-exchange"):
            server.close()
        gate.open.set()
    wait_for(lambda: not named("admin-exchange"))


def test_two_servers_share_one_listener(serve: Serve) -> None:
    """As two workers do: whoever is late for a connection must not block."""
    answered: list[str] = []

    def by(name: str) -> WSGIApplication:
        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            answered.append(name)
            return hello(environ, start_response)

        return app

    listener = listeners.listen("127.0.0.1", 0)
    one, address = serve(by("one"), listener=listener)
    serve(by("two"), listener=listener)
    for _ in range(40):
        assert get(address).startswith(b"HTTP/1.0 200")
    one.close()
    answered.clear()
    assert get(address).startswith(b"HTTP/1.0 200")
    assert answered == ["two"]


def test_without_a_listener_nothing_is_started() -> None:
    server = AdminServer(hello, listener=lambda: None)
    server.start()
    assert named("admin") == []
    server.close()


def test_a_forked_child_forgets_its_parents_thread_and_breaks_nothing(serve: Serve) -> None:
    server, address = serve(hello)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: our subject
        pid = os.fork()
    if not pid:
        server.abandon()
        server.close()
        os._exit(0 if "not serving" in repr(server) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert get(address).startswith(b"HTTP/1.0 200")


def test_a_port_is_listened_on_once() -> None:
    with (
        listeners.listen("127.0.0.1", 0) as listener,
        pytest.raises(OSError, match="in use"),
    ):
        listeners.listen("127.0.0.1", listener.getsockname()[1])


def named(prefix: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(prefix)]


def wait_for(condition: Callable[[], object]) -> None:
    """Ask until it holds; nothing tells when another thread has ended."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen within 10 s"
        threading.Event().wait(0.01)
