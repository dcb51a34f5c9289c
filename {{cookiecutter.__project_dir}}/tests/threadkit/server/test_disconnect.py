"""A client that leaves ends its own request, and never a neighbour's."""

from __future__ import annotations

import os
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from threadkit.concurrency import Cancelled, CancelScope
from threadkit.runtime import REQUEST_RECORD, RequestRecord
from threadkit.server.disconnect import REASON, DisconnectWatcher
from threadkit.testing import no_leaked_threads  # noqa: F401 - autouse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


@pytest.fixture
def watcher() -> Iterator[DisconnectWatcher]:
    watcher = DisconnectWatcher()
    watcher.start()
    yield watcher
    watcher.close()


class Request:
    """One request on a connection, with a scope that tells when it ends."""

    def __init__(self, watcher: DisconnectWatcher, connection: socket.socket) -> None:
        self.scope = CancelScope()
        self.over = threading.Event()
        self.scope.on_cancel(self.over.set)
        self.record = RequestRecord(id="1", method="GET", path="/", root=self.scope)
        watcher.watch(connection.fileno(), self.record)

    def complete(self) -> None:
        while self.record.at_end:
            self.record.at_end.pop()()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    yield client, server
    client.close()
    server.close()


Ends = tuple[socket.socket, socket.socket]


def test_a_client_that_leaves_ends_its_request(watcher: DisconnectWatcher, ends: Ends) -> None:
    request = Request(watcher, ends[1])
    ends[0].close()
    assert request.over.wait(5)
    assert request.scope.reason == REASON
    assert request.record.client_left
    request.complete()
    assert watcher.stats() == {"watched": 0, "cancelled": 1}


def test_half_a_close_is_a_disconnect(watcher: DisconnectWatcher, ends: Ends) -> None:
    request = Request(watcher, ends[1])
    ends[0].shutdown(socket.SHUT_WR)
    assert request.over.wait(5)


def test_a_client_that_left_before_is_noticed(watcher: DisconnectWatcher, ends: Ends) -> None:
    ends[0].close()
    assert Request(watcher, ends[1]).over.wait(5)


def test_bytes_of_a_next_request_are_no_disconnect(watcher: DisconnectWatcher, ends: Ends) -> None:
    request = Request(watcher, ends[1])
    ends[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    other, server = socket.socketpair()
    with other, server:
        witness = Request(watcher, server)
        other.close()
        assert witness.over.wait(5)  # by now the first one's event would have been seen
        assert not request.over.is_set()


def test_a_completed_request_is_left_alone(watcher: DisconnectWatcher, ends: Ends) -> None:
    request = Request(watcher, ends[1])
    request.complete()
    again = Request(watcher, ends[1])  # kept alive: the same connection, the next request
    ends[0].close()
    assert again.over.wait(5)
    assert not request.over.is_set()
    assert not request.record.client_left


def test_an_event_of_the_connection_before_is_not_believed(ends: Ends) -> None:
    """The descriptor has become another connection's, whose client is there."""
    watcher = DisconnectWatcher()
    watcher.start()
    request = Request(watcher, ends[1])
    try:
        assert watcher._confirm(ends[1].fileno()) is None
        assert not request.record.client_left
        ends[0].close()
        assert request.over.wait(5)  # and it is still watched
    finally:
        watcher.close()


def test_a_slow_callback_delays_no_other_client(watcher: DisconnectWatcher, ends: Ends) -> None:
    go = threading.Event()
    slow = Request(watcher, ends[1])
    started = threading.Event()
    slow.scope.on_cancel(started.set)
    slow.scope.on_cancel(partial(go.wait, 10))
    ends[0].close()
    assert started.wait(5)
    other, server = socket.socketpair()
    with other, server:
        request = Request(watcher, server)
        other.close()
        try:
            assert request.over.wait(5)
        finally:
            go.set()


def test_a_request_whose_client_has_gone_is_not_run(watcher: DisconnectWatcher, ends: Ends) -> None:
    ends[0].close()
    record = RequestRecord(id="1", method="GET", path="/", root=CancelScope())

    def app(environ: Any, start_response: Any) -> list[bytes]:
        pytest.fail("nobody waits for this")

    environ = {"gunicorn.socket": ends[1], REQUEST_RECORD: record}
    with pytest.raises(Cancelled, match=REASON):
        watcher.wrap(app)(environ, lambda *_: lambda _: None)
    assert record.client_left


def test_a_stopped_watcher_watches_nothing(ends: Ends) -> None:
    watcher = DisconnectWatcher()
    request = Request(watcher, ends[1])
    watcher.start()
    assert "watching, 0" in repr(watcher)
    watcher.close()
    assert "not watching" in repr(watcher)
    request.complete()


def test_a_forked_child_leaves_the_parents_watches_alone(
    watcher: DisconnectWatcher, ends: Ends
) -> None:
    request = Request(watcher, ends[1])
    child = os.fork()
    if child == 0:
        watcher.abandon()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    ends[0].close()
    assert request.over.wait(5)


THREADS = 8
DISCONNECTS = 10_000


def test_ten_thousand_disconnects_end_no_innocent_request(watcher: DisconnectWatcher) -> None:
    """Descriptors are reused at once, by other threads and for clients that stay."""
    files = len(os.listdir("/proc/self/fd"))
    wrong: list[str] = []
    left = [0] * THREADS

    def serve(number: int) -> None:
        chance = random.Random(number)
        while left[number] < DISCONNECTS // THREADS and not wrong:
            client, server = socket.socketpair()
            # One to three requests on a connection that is kept alive.
            for _ in range(chance.randint(1, 3)):
                request = Request(watcher, server)
                if chance.random() < 0.2:
                    client.send(b"pipelined")
                leaves = chance.random() < 0.6
                if leaves:
                    left[number] += 1
                    client.close()
                    # Half of the handlers do not notice and are done in that very moment.
                    if chance.random() < 0.5 and not request.over.wait(10):
                        wrong.append("a disconnect was not noticed")
                request.complete()
                if not leaves and (request.over.is_set() or request.record.client_left):
                    wrong.append("a request was cancelled whose client was there")
                if leaves:
                    break
            client.close()
            server.close()

    threads = [threading.Thread(target=serve, args=(n,)) for n in range(THREADS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120 - (time.monotonic() - began))
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert sum(left) >= DISCONNECTS
    assert watcher.stats()["watched"] == 0
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_watch_is_cheap_enough_for_every_request(watcher: DisconnectWatcher, ends: Ends) -> None:
    """5 to 10 microseconds were measured; a mistake would be tenfold."""
    rounds = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100):
            record = RequestRecord(id="1", method="GET", path="/")
            watcher.watch(ends[1].fileno(), record)
            record.at_end.pop()()
        rounds.append((time.perf_counter() - began) / 100)
    assert min(rounds) < 100e-6


def test_select_has_what_the_watcher_needs() -> None:
    for name in ("EPOLLRDHUP", "EPOLLHUP", "EPOLLERR", "EPOLLONESHOT", "POLLRDHUP"):
        assert hasattr(select, name)
