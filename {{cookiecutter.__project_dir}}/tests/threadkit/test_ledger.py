"""The ledger: counts all answers, keeps the slow ones, and little else."""

from __future__ import annotations

import pytest

from threadkit import ledger as ledgers
from threadkit.concurrency.timeline import Timeline
from threadkit.ledger import MOST_LATE, MOST_SLOWEST, Answered, Ledger


def answered(seconds: float, *, limit: float = 3.0, path: str = "/x") -> Answered:
    return Answered(
        id="an-id", method="GET", path=path, route=path, status=200, seconds=seconds,
        cpu_seconds=0.0, limit=limit, timeline=Timeline(),
    )  # fmt: skip


def seconds(ledger: Ledger, reason: str) -> list[float]:
    return [slow["seconds"] for slow in ledger.slow() if slow["reason"] == reason]


def test_answers_are_counted_by_status() -> None:
    ledger = Ledger()
    for status in (200, 200, 503):
        ledger.count(status)
    assert ledger.answered() == {"200": 2, "503": 1}


def test_the_latest_of_those_beyond_half_their_limit_are_kept() -> None:
    ledger = Ledger()
    for number in range(MOST_LATE + 5):
        assert ledger.wants(2.0 + number, 3.0)
        ledger.keep(answered(2.0 + number))
    assert seconds(ledger, "late") == [2.0 + n for n in reversed(range(5, MOST_LATE + 5))]


def test_the_slowest_are_kept_in_order_and_quick_ones_are_not_asked_for() -> None:
    ledger = Ledger()
    for number in range(100):
        taken = (number * 37 % 100) / 1000
        if ledger.wants(taken, 3.0):
            ledger.keep(answered(taken))
    assert seconds(ledger, "slowest") == [n / 1000 for n in range(99, 99 - MOST_SLOWEST, -1)]
    assert not ledger.wants(0.001, 3.0)


def test_the_slowest_of_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(ledgers, "monotonic", lambda: now)
    ledger = Ledger()
    ledger.keep(answered(1.0))
    now += ledgers.WINDOW
    assert ledger.wants(0.001, 3.0)
    ledger.keep(answered(0.001))
    assert seconds(ledger, "slowest") == [1.0, 0.001]
    now += ledgers.WINDOW
    ledger.keep(answered(0.002))
    assert seconds(ledger, "slowest") == [0.002, 0.001]
    now += 2 * ledgers.WINDOW
    ledger.keep(answered(0.003))
    assert seconds(ledger, "slowest") == [0.003]
