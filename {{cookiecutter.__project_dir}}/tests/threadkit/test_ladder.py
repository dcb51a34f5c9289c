"""The ladder: unset values follow set ones, and only explicit values can conflict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadkit import ladder

DEFAULTS: dict[str, Any] = {
    "request_timeout": 3.0,
    "max_request_timeout": 3.0,
    "queue_timeout": 0.5,
    "database_pool_timeout": 1.0,
    "database_statement_timeout": 4.0,
    "drain_delay": 1.0,
    "graceful_timeout": 11.0,
    "concurrency": 8,
    "database_pool_size": 8,
}


def faults(**explicit: Any) -> list[str]:
    return ladder.faults(ladder.derive(explicit, DEFAULTS), known=lambda name: True)


def test_a_shorter_request_timeout_shortens_the_waits() -> None:
    values = ladder.derive({"request_timeout": 0.6}, DEFAULTS)
    assert values["queue_timeout"] < 0.6
    assert values["database_pool_timeout"] < 0.6
    assert values["max_request_timeout"] == 0.6


def test_a_longer_queue_wait_alone_raises_the_request_timeout() -> None:
    assert ladder.derive({"queue_timeout": 5.0}, DEFAULTS)["request_timeout"] > 5


def test_the_pool_has_a_connection_for_each_running_request() -> None:
    assert ladder.derive({"concurrency": 30}, DEFAULTS)["database_pool_size"] == 30


@given(value=st.integers(1, 100))
def test_no_more_run_than_a_small_pool_has_connections(value: int) -> None:
    assert ladder.derive({"database_pool_size": value}, DEFAULTS)["concurrency"] == min(8, value)
    assert faults(database_pool_size=value) == []


@given(
    name=st.sampled_from(
        [
            "request_timeout",
            "max_request_timeout",
            "queue_timeout",
            "database_pool_timeout",
            "database_statement_timeout",
            "drain_delay",
        ]
    ),
    value=st.floats(0.01, 3600).map(lambda v: round(v, 3)),
)
def test_one_explicit_value_never_conflicts(name: str, value: float) -> None:
    assert faults(**{name: value}) == []


@given(value=st.floats(9, 3600))
def test_a_graceful_timeout_with_room_for_the_drain_never_conflicts(value: float) -> None:
    assert faults(graceful_timeout=value) == []


@pytest.mark.parametrize(
    "explicit",
    [
        {"queue_timeout": 3.0, "request_timeout": 3.0},
        {"database_pool_timeout": 4.0, "request_timeout": 3.0},
        {"request_timeout": 5.0, "max_request_timeout": 4.0},
        {"max_request_timeout": 10.0, "database_statement_timeout": 9.0},
        {"graceful_timeout": 10.0, "drain_delay": 5.0, "max_request_timeout": 3.0},
        {"concurrency": 16, "database_pool_size": 4},
    ],
)
def test_each_rung_that_explicit_values_break_is_named(explicit: dict[str, Any]) -> None:
    (line,) = faults(**explicit)
    assert all(f"{name.upper()}={value}" in line for name, value in explicit.items())


def test_a_rule_about_an_unknown_value_is_left_out() -> None:
    values = ladder.derive({"queue_timeout": 9.0, "request_timeout": 1.0}, DEFAULTS)
    assert ladder.faults(values, known=lambda name: name != "queue_timeout") == []
