"""The kernel says how long a request has waited, and whether its client is still there."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from threadkit import arrival

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A client's end and the server's."""
    client, server = tcp_pair() if request.param == "tcp" else socket.socketpair()
    yield client, server
    client.close()
    server.close()


def tcp_pair() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def at(server: socket.socket, **values: object) -> dict[str, object]:
    return {arrival.SOCKET: server, **values}


def wait_for(server: socket.socket, events: int) -> None:
    poll = select.poll()
    poll.register(server, events)
    assert poll.poll(5000)


def test_a_client_that_waits_has_not_left(pair: Pair) -> None:
    assert not arrival.has_left(at(pair[1]))


def test_a_client_that_closes_has_left(pair: Pair) -> None:
    pair[0].close()
    wait_for(pair[1], select.POLLRDHUP)
    assert arrival.has_left(at(pair[1]))


def test_half_a_close_is_a_disconnect(pair: Pair) -> None:
    pair[0].shutdown(socket.SHUT_WR)
    wait_for(pair[1], select.POLLRDHUP)
    assert arrival.has_left(at(pair[1]))


def test_bytes_that_nobody_has_read_neither_hide_a_disconnect_nor_are_one(pair: Pair) -> None:
    pair[0].sendall(b"x" * 1000)
    wait_for(pair[1], select.POLLIN)
    assert not arrival.has_left(at(pair[1]))
    pair[0].close()
    wait_for(pair[1], select.POLLRDHUP)
    assert arrival.has_left(at(pair[1]))


def test_without_a_connection_nobody_has_waited_or_left(pair: Pair) -> None:
    pair[1].close()
    for environ in ({}, at(pair[1])):
        assert not arrival.has_left(environ)
        assert arrival.waited(environ) == 0


def test_the_wait_counts_from_the_last_byte() -> None:
    """It includes what the connection spent in the backlog, before anybody accepted it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"GET ")
            began = time.monotonic()
            assert not select.select([client], [], [], 0.2)[0]  # nobody answers for a while
            server = listener.accept()[0]
            seen, passed = arrival.waited(at(server)), time.monotonic() - began
            assert 0.18 <= seen <= passed + 0.02
            client.sendall(b"/")
            wait_for(server, select.POLLIN)
            assert arrival.waited(at(server)) < seen
            server.close()


def test_over_a_unix_socket_the_workers_stamp_counts() -> None:
    client, server = socket.socketpair()
    with client, server:
        assert arrival.waited(at(server)) == 0
        stamped = at(server, **{arrival.ARRIVED: time.monotonic() - 1.5})
        assert 1.5 <= arrival.waited(stamped) < 2
