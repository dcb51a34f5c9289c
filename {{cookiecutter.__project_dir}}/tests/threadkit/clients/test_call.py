"""An outbound call ends with its scope, and with nobody else's."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from threadkit import Cancelled, CancelScope, DeadlineExceeded, fail_after
from threadkit.clients import Client
from threadkit.clients.call import Call, Connection, SecureConnection, pools

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
WHOLE = HEAD + b"x" * 20


class Upstream:
    """A server that reads requests and answers each connection as ``serve`` wants."""

    def __init__(self, serve: Callable[[socket.socket, Upstream], None]) -> None:
        self.over = threading.Event()
        self.asked = threading.Semaphore(0)
        self.connections = 0
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, name="upstream")]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._run, args=(sock,), name="upstream-connection")
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            self._serve(sock, self)

    def requests(self, sock: socket.socket) -> Iterator[bytes]:
        """The head of each request on a connection."""
        pending = b""
        while data := sock.recv(65536):
            pending += data
            while b"\r\n\r\n" in pending:
                head, _, pending = pending.partition(b"\r\n\r\n")
                self.asked.release()
                yield head

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def trickles(head: bytes) -> Callable[[socket.socket, Upstream], None]:
    """After ``head`` a byte every so often, for ten seconds."""

    def serve(sock: socket.socket, upstream: Upstream) -> None:
        for _ in upstream.requests(sock):
            sock.sendall(head)
            for _ in range(100):
                if upstream.over.wait(0.1):
                    return
                sock.sendall(b"x")

    return serve


def answers(sock: socket.socket, upstream: Upstream) -> None:
    """At once."""
    for _ in upstream.requests(sock):
        sock.sendall(WHOLE)


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_an_upstream_that_trickles_costs_no_more_than_the_deadline(head: bytes) -> None:
    with closing(Upstream(trickles(head))) as upstream, closing(Client(upstream.url)) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded), fail_after(0.4):
            client.request("GET", "/")
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_cancelled_scope_ends_a_call_that_hangs(head: bytes) -> None:
    def hangs(sock: socket.socket, upstream: Upstream) -> None:
        for _ in upstream.requests(sock):
            sock.sendall(head)
            upstream.over.wait(20)

    with closing(Upstream(hangs)) as upstream, closing(Client(upstream.url)) as client:
        scope = CancelScope()

        def leave() -> None:
            assert upstream.asked.acquire(timeout=10)
            scope.cancel("the client left")

        leaver = threading.Thread(target=leave)
        leaver.start()
        began = time.monotonic()
        with scope:
            client.request("GET", "/")
        assert scope.cancelled_caught
        assert time.monotonic() - began < 5
        leaver.join(5)
        assert client.stats()["in_flight"] == 0


def test_the_next_call_is_not_hit_by_one_that_was_cut() -> None:
    """Cancels aimed at the end of an answer, when the connection goes to the next call."""
    with closing(Upstream(answers)) as upstream:
        client = Client(upstream.url, max_connections=2)
        wrong: list[BaseException] = []
        caught = threading.Semaphore(0)

        def hasty(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(300):
                with suppress(Cancelled), fail_after(chance.uniform(0.0002, 0.003)):
                    client.request("GET", "/hasty")
                    continue
                caught.release()

        def innocent() -> None:
            try:
                for _ in range(300):
                    with fail_after(20):
                        assert client.request("GET", "/innocent").data == b"x" * 20
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=hasty, args=(seed,)) for seed in range(3)]
        threads += [threading.Thread(target=innocent) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        client.close()
        assert wrong == []
        assert caught.acquire(blocking=False), "nothing was cut: the test shows nothing"


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Connected, and answered from the other side."""
    with closing(Upstream(answers)) as upstream:
        port = int(upstream.url.rpartition(":")[2])
        with closing(Connection("127.0.0.1", port, timeout=5)) as made:
            yield made


def ask(connection: Connection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().data


def test_one_that_was_torn_in_the_pool_connects_again(connection: Connection) -> None:
    with CancelScope() as scope, Call(scope) as call:
        assert ask(connection) == b"x" * 20
        before = connection.sock
        scope.cancel("late")  # the call has its answer, and has not ended yet
        assert call.cut_off
    with Call(None):
        assert ask(connection) == b"x" * 20
    assert connection.sock is not before


def test_a_call_cuts_only_what_serves_it(connection: Connection) -> None:
    with Call(None) as first:
        assert ask(connection) == b"x" * 20
    with Call(None) as second:
        connection.request("GET", "/")
        connection.cut(first)
        assert connection.getresponse().data == b"x" * 20
        before = connection.sock
        connection.cut(second)
    with Call(None):
        assert ask(connection) == b"x" * 20
    assert connection.sock is not before


def test_a_call_whose_scope_is_over_connects_to_nobody(connection: Connection) -> None:
    with CancelScope() as scope:
        scope.cancel("left")
        with Call(scope) as call, pytest.raises(ConnectionAbortedError, match="has ended"):
            connection.request("GET", "/")
    assert call.cut_off
    assert connection.sock is None


def test_connecting_has_the_time_that_is_left_by_then(connection: Connection) -> None:
    with fail_after(0.5), Call(None):
        connection.connect()
    assert connection.timeout is not None
    assert 0 < connection.timeout <= 0.5
    with Call(None):
        connection.close()
        connection.timeout = 5
        connection.connect()
    assert connection.timeout == 5


def test_urllib3_connects_by_what_is_overridden_here() -> None:
    """The names that this rests on: a new socket is in ``sock``, both kinds send by ``request``."""
    manager = pools()
    for scheme, made_by in (("http", Connection), ("https", SecureConnection)):
        pool = manager.connection_from_url(f"{scheme}://127.0.0.1:1")
        assert type(pool._new_conn()) is made_by
    for kind in (Connection, SecureConnection):
        made = kind("127.0.0.1", 1)
        assert made.sock is None
        assert made.auto_open
    # SSLSocket's own shutdown forgets the encryption, which is why the socket's is called.
    assert ssl.SSLSocket.shutdown is not socket.socket.shutdown
