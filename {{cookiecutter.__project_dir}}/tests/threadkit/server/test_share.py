"""A worker leaves something of a burst to the others."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from threadkit.server import share
from threadkit.server.poller import Patience, Poller
from threadkit.server.share import Share
from threadkit.server.wire import Limits


def test_a_burst_is_followed_by_a_pause() -> None:
    ours = Share()
    assert [ours.took(1.0), ours.took(1.0005), ours.took(1.0009)] == [False, False, True]
    assert 1.001 < ours.again < 1.01
    assert not ours.is_over(1.001)
    assert ours.is_over(ours.again)
    assert ours.again == math.inf
    assert not ours.is_over(2.0)
    # The next ones are counted anew.
    assert [ours.took(1.004), ours.took(1.0041), ours.took(1.0042)] == [False, False, True]


def test_who_comes_one_by_one_is_not_kept_waiting() -> None:
    ours = Share()
    assert not any(ours.took(number * 0.0011) for number in range(1000))


def test_thousands_at_once_are_taken_without_more_pauses() -> None:
    ours = Share()
    now, pauses = 1.0, 0
    for _ in range(3000):
        now += 0.0001
        if ours.took(now):
            pauses += 1
            now = ours.again
    assert pauses == 8
    # After a quiet moment a burst is shared again.
    assert [ours.took(now + 0.02 + n * 0.0001) for n in range(3)] == [False, False, True]


def test_two_workers_share_what_has_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "_WITHIN", 60.0)
    monkeypatch.setattr(share, "_PAUSE", 60.0)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for _ in range(8):
            stack.enter_context(socket.create_connection(listener.getsockname(), 10))
        first, second = (stack.enter_context(_poller(listener)) for _ in range(2))
        # The one that woke up first does not get them all, however often it asks.
        for poller in (first, second):
            for _ in range(8):
                poller.turn(0.0)
        assert [len(first.connections), len(second.connections)] == [3, 3]
        # At a stop it takes what is there, for the others have left or do so as well.
        second.stop_listening()
        assert len(second.connections) == 5


def test_the_others_are_given_a_moment_and_no_more() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for _ in range(8):
            stack.enter_context(socket.create_connection(listener.getsockname(), 10))
        only = stack.enter_context(_poller(listener))
        until = time.monotonic() + 20
        while len(only.connections) < 8 and time.monotonic() < until:
            only.turn(1.0)
        assert len(only.connections) == 8


def test_who_has_no_place_asks_the_others_first() -> None:
    ours = Share()
    assert not ours.leaves(1.0, busy=False, resumed=False)
    assert ours.leaves(1.0, busy=True, resumed=False)
    assert 1.0005 < ours.again < 1.01
    assert ours.is_over(ours.again)
    # They took it; the next one is theirs as well.
    assert ours.leaves(1.005, busy=True, resumed=False)
    assert ours.is_over(ours.again)
    # They did not: all are busy, and for a while nobody waits for nothing.
    assert not ours.leaves(1.0061, busy=True, resumed=True)
    assert not ours.leaves(1.05, busy=True, resumed=False)
    assert ours.leaves(1.06, busy=True, resumed=False)


def test_a_busy_worker_leaves_connections_to_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(share, "_BURST", 100)
    monkeypatch.setattr(share, "_PAUSE", 60.0)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for _ in range(8):
            stack.enter_context(socket.create_connection(listener.getsockname(), 10))
        busy = stack.enter_context(_poller(listener, busy=True))
        idle = stack.enter_context(_poller(listener))
        for poller in (busy, idle):
            for _ in range(8):
                poller.turn(0.0)
        assert [len(busy.connections), len(idle.connections)] == [0, 8]


def test_where_all_are_busy_one_takes_it_all_the_same() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for _ in range(8):
            stack.enter_context(socket.create_connection(listener.getsockname(), 10))
        both = [stack.enter_context(_poller(listener, busy=True)) for _ in range(2)]
        until = time.monotonic() + 20
        while sum(len(poller.connections) for poller in both) < 8 and time.monotonic() < until:
            for poller in both:
                poller.turn(0.01)
        assert sum(len(poller.connections) for poller in both) == 8


@contextmanager
def _poller(listener: socket.socket, *, busy: bool = False) -> Iterator[Poller]:
    poller = Poller(
        patience=Patience(idle=60, head=60, body=60),
        limits=Limits(body=1000),
        most=100,
        most_bytes=2**21,
        busy=lambda: busy,
        ready=lambda connection, patient: None,
        faulty=lambda fault, connection: None,
    )
    poller.listen([listener], shared=True)
    try:
        yield poller
    finally:
        poller.shut()
