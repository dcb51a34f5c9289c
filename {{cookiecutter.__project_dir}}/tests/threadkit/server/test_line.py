"""So many run, so many wait, and whoever leaves a place takes the next along."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from threadkit.server.connection import Connection
from threadkit.server.line import Line, Verdict
from threadkit.server.wire import Limits


@pytest.fixture
def several() -> Iterator[list[Connection]]:
    pairs = [socket.socketpair() for _ in range(4)]
    yield [Connection(a, "", "", Limits()) for a, _ in pairs]
    for pair in pairs:
        for end in pair:
            end.close()


def test_the_first_run_the_next_wait_the_rest_is_refused(several: list[Connection]) -> None:
    line = Line(places=1, most=2)
    verdicts = [line.enter(c) for c in several]
    assert verdicts == [Verdict.RUN, Verdict.WAIT, Verdict.WAIT, Verdict.REFUSE]
    assert line.stats()["waiting"] == 2
    assert line.leave(several[0]) is several[1]
    assert line.leave(several[1]) is several[2]
    assert line.leave(several[2]) is None
    assert line.enter(several[3]) is Verdict.RUN
    assert line.stats() == {
        "running": 1,
        "waiting": 0,
        "places": 1,
        "most_waiting": 2,
        "refused": 1,
        "expired": 0,
    }


def test_who_has_just_been_answered_may_ask_again(several: list[Connection]) -> None:
    """The answer is out before its thread has left the place."""
    line = Line(places=1, most=1)
    assert [line.enter(c) for c in several[:3]] == [Verdict.RUN, Verdict.WAIT, Verdict.REFUSE]
    several[0].answered = True
    assert line.enter(several[2]) is Verdict.WAIT
    assert line.enter(several[3]) is Verdict.REFUSE


def test_who_has_waited_too_long_leaves_the_line_in_order(several: list[Connection]) -> None:
    line = Line(places=1, most=3)
    for number, connection in enumerate(several):
        connection.arrived = float(number)
        line.enter(connection)
    assert line.first() == 1.0
    assert line.expired(before=2.0) == several[1:3]
    assert line.leave(several[0]) is several[3]
    assert line.stats()["expired"] == 2
