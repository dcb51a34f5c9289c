"""An outage is told when it begins, while it lasts and when it is over, not for every request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from threadkit.database import outage
from threadkit.database.outage import EVERY, FORGOTTEN, Outage

Logs = list[Any]


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as captured:
        yield captured


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outage, "time", clock)
    return clock


def test_a_thousand_failures_are_a_line_every_so_often(logs: Logs, clock: Clock) -> None:
    ours = Outage()
    for _ in range(1100):
        ours.met("gone")
        clock.now += EVERY / 512  # exact
    assert [(line["reason"], line["failures"]) for line in logs] == [
        ("gone", 1),
        ("gone", 512),
        ("gone", 512),
    ]
    assert [line["seconds"] for line in logs] == [0, EVERY, 2 * EVERY]


def test_its_end_is_told_once_and_the_next_one_at_once(logs: Logs, clock: Clock) -> None:
    ours = Outage()
    ours.over()
    assert not logs
    ours.met("gone")
    clock.now += 3
    ours.over()
    ours.over()
    ours.met("gone again")
    assert [line["log_level"] for line in logs] == ["warning", "info", "warning"]
    assert logs[1]["seconds"] == 3
    assert logs[2]["failures"] == 1


def test_where_nobody_told_its_end_a_later_one_is_another(logs: Logs, clock: Clock) -> None:
    ours = Outage()
    ours.met("gone")
    clock.now += FORGOTTEN + 1
    ours.met("gone again")
    assert [line["seconds"] for line in logs] == [0, 0]
