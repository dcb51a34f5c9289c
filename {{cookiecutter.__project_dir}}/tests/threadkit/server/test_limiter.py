"""The adaptive limit: up while all goes well, down when answers take much longer than usual."""

from __future__ import annotations

import random

import pytest

from threadkit.server import limiter
from threadkit.server.limiter import AdaptiveLimit


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limiter, "time", clock)
    return clock


def settle(limit: AdaptiveLimit, clock: Clock, seconds: float = 0.1, answers: int = 100) -> None:
    for _ in range(answers):
        clock.now += seconds
        limit.observe("/", seconds)


def test_it_starts_at_the_most_and_stays_there_while_all_goes_well(clock: Clock) -> None:
    limit = AdaptiveLimit(8)
    settle(limit, clock)
    assert limit.limit == 8
    assert repr(limit) == "<AdaptiveLimit 8 of 8>"


def test_an_answer_of_three_times_the_usual_lowers_it(clock: Clock) -> None:
    limit = AdaptiveLimit(10)
    settle(limit, clock)
    clock.now += 1
    assert limit.observe("/", 0.5) == 9


def test_those_that_were_late_together_count_once(clock: Clock) -> None:
    limit = AdaptiveLimit(10)
    settle(limit, clock)
    for _ in range(10):
        limit.observe("/", 0.5)
    assert limit.limit == 9


def test_it_never_falls_below_one_and_recovers_one_by_one(clock: Clock) -> None:
    limit = AdaptiveLimit(8)
    settle(limit, clock)
    for _ in range(40):
        clock.now += 10
        limit.observe("/", 0.1)
        limit.observe("/", 5.0)
    assert limit.limit == 1
    settle(limit, clock, answers=2)
    assert limit.limit == 2
    settle(limit, clock, answers=200)
    assert limit.limit == 8


def test_with_room_left_all_going_well_proves_nothing(clock: Clock) -> None:
    limit = AdaptiveLimit(10)
    settle(limit, clock)
    clock.now += 1
    limit.observe("/", 0.5)
    for _ in range(100):
        assert limit.observe("/", 0.1, busy=False) is None
    assert limit.limit == 9


def test_a_slow_route_is_no_sign_of_overload(clock: Clock) -> None:
    limit = AdaptiveLimit(8)
    chance = random.Random(1)
    for _ in range(500):
        route, seconds = chance.choice([("/fast", 0.01), ("/slow", 1.0)])
        clock.now += 1
        limit.observe(route, seconds * chance.uniform(0.8, 1.2))
    assert limit.limit == 8


def test_a_lasting_change_becomes_the_usual(clock: Clock) -> None:
    limit = AdaptiveLimit(8)
    settle(limit, clock, 0.1)
    for _ in range(600):
        clock.now += 1
        limit.observe("/", 0.5, busy=False)
    assert limit.limit < 8
    settle(limit, clock, 0.5)
    assert limit.limit == 8


def test_a_cold_first_answer_does_not_hide_what_comes(clock: Clock) -> None:
    limit = AdaptiveLimit(10)
    limit.observe("/", 3.0)
    settle(limit, clock, 0.1, answers=200)
    clock.now += 1
    assert limit.observe("/", 0.5) == 9


def settled_limit(capacity: int, most: int) -> int:
    """Offered endless work; beyond ``capacity`` at once, each answer takes longer."""
    clock_now, limit, chance = 0.0, AdaptiveLimit(most), random.Random(3)
    for _ in range(60):  # without load
        limit.observe("/", chance.uniform(0.09, 0.11), busy=False)
    seen = []
    for _ in range(4000):
        inside = limit.limit
        seconds = 0.1 * max(1.0, (inside / capacity) ** 3) * chance.uniform(0.9, 1.1)
        clock_now += seconds / inside
        limiter.time.now = clock_now  # type: ignore[attr-defined]
        limit.observe("/", seconds)
        seen.append(inside)
    return max(seen[1000:])


def test_it_finds_its_way_below_a_concurrency_that_is_too_high(clock: Clock) -> None:
    assert settled_limit(capacity=8, most=64) < 24
