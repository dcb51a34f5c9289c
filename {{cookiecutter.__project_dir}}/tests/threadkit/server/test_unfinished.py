"""Requests that are still coming in share a budget, and who holds it for nothing goes first."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from threadkit.server.connection import Connection
from threadkit.server.unfinished import Unfinished
from threadkit.server.wire import Limits

HEAD = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def clients() -> Iterator[list[Connection]]:
    """Ten connections, the one that has been silent the longest first."""
    with ExitStack() as stack:
        made = []
        for number in range(10):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            made.append(Connection(ours, "", "", Limits()))
            made[-1].last = float(number)
        yield made


def test_a_sum_is_kept_of_heads_and_of_bodies_in_pieces(clients: list[Connection]) -> None:
    unfinished = Unfinished(1000)
    one, two, *_ = clients
    one.inflow.feed(HEAD + b"3\r\nabc\r\n")
    two.inflow.feed(HEAD[:10])
    for connection in (one, two, one):
        unfinished.count(connection)
    assert unfinished.bytes == len(HEAD) + 3 + 10
    one.inflow.forget()
    unfinished.count(one)
    unfinished.forget(two)
    unfinished.forget(two)
    assert unfinished.bytes == 0


def test_of_those_with_more_than_their_share_the_longest_silent_go(
    clients: list[Connection],
) -> None:
    unfinished = Unfinished(1000)
    sizes = [10, 300, 0, 50, 300, 400, 10, 10, 10, 300]
    for connection, size in zip(clients, sizes, strict=True):
        connection.inflow.buffer += b"x" * size
        unfinished.count(connection)
    assert unfinished.too_many  # 1390
    assert unfinished.surplus(clients) == [clients[1], clients[4]]


def test_within_the_limit_nobody_goes(clients: list[Connection]) -> None:
    unfinished = Unfinished(1000)
    for connection in clients:
        connection.inflow.buffer += b"x" * 100
        unfinished.count(connection)
    assert not unfinished.too_many
    assert unfinished.surplus(clients) == []


def test_many_small_ones_are_too_many_together(clients: list[Connection]) -> None:
    unfinished = Unfinished(1000)
    for connection in clients:
        connection.inflow.buffer += b"x" * 101
        unfinished.count(connection)
    assert unfinished.surplus(clients) == [clients[0]]
