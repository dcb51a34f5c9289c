"""How the time-outs and sizes of a service depend on one another.

Time-outs form a ladder: whoever waits must give up before the one who waits for them.
``derive`` fills in what nobody set from what somebody did; ``faults`` names every rung
that explicit values have made impossible. Both are pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# What background work may take to finish once a worker has been told to stop, and the
# slack between the last of it and gunicorn's own kill.
BACKGROUND_DRAIN = 5.0
SHUTDOWN_MARGIN = 2.0


def derive(explicit: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All the rungs: explicit values as they are, the others made to fit between them.

    A value that nobody set follows the ones that somebody did, in either direction: a
    short REQUEST_TIMEOUT shortens QUEUE_TIMEOUT, and a long QUEUE_TIMEOUT alone raises
    REQUEST_TIMEOUT. So only explicit values can contradict each other.
    """
    values = {**defaults, **explicit}

    def unset(name: str, value: float) -> None:
        if name not in explicit:
            values[name] = round(value, 3)

    waits = [explicit[n] for n in ("queue_timeout", "database_pool_timeout") if n in explicit]
    ceilings = [
        explicit[n] for n in ("max_request_timeout", "database_statement_timeout") if n in explicit
    ]
    if "graceful_timeout" in explicit:
        spent = explicit.get("drain_delay", 0.0) + BACKGROUND_DRAIN + SHUTDOWN_MARGIN
        ceilings.append(max(0.5, explicit["graceful_timeout"] - spent))
    longest_wait = max(waits, default=0.0)
    unset("request_timeout", min([max(defaults["request_timeout"], 2 * longest_wait), *ceilings]))
    request_timeout = values["request_timeout"]
    unset("max_request_timeout", request_timeout)
    unset("queue_timeout", min(defaults["queue_timeout"], request_timeout / 3))
    unset("database_pool_timeout", min(defaults["database_pool_timeout"], request_timeout / 3))
    unset("database_statement_timeout", values["max_request_timeout"] + 1.0)
    if "graceful_timeout" in explicit:
        room = explicit["graceful_timeout"] - values["max_request_timeout"]
        room -= BACKGROUND_DRAIN + SHUTDOWN_MARGIN
        unset("drain_delay", max(0.0, min(defaults["drain_delay"], room)))
    unset(
        "graceful_timeout",
        values["drain_delay"] + values["max_request_timeout"] + BACKGROUND_DRAIN + SHUTDOWN_MARGIN,
    )
    if "database_pool_size" in explicit:  # who runs must find a connection
        most = max(1, explicit["database_pool_size"])
        unset("concurrency", min(defaults["concurrency"], most))
    # One waits for each that runs, so the wait is about the time of one request: with both
    # lines full an answer takes twice as long as without load.
    for name in ("database_pool_size", "queue_size"):
        if name not in explicit:
            values[name] = values["concurrency"]
    return values


class Rule(NamedTuple):
    """One rung: the settings that it compares, whether it holds, and what to do if not."""

    names: tuple[str, ...]
    holds: Callable[[Mapping[str, Any]], bool]
    remedy: str


RULES: tuple[Rule, ...] = (
    Rule(
        ("queue_timeout", "request_timeout"),
        lambda v: v["queue_timeout"] < v["request_timeout"],
        "a request would spend its whole time in the queue: make QUEUE_TIMEOUT the shorter one",
    ),
    Rule(
        ("database_pool_timeout", "request_timeout"),
        lambda v: v["database_pool_timeout"] < v["request_timeout"],
        "a request would spend its whole time waiting for a connection: "
        "make DATABASE_POOL_TIMEOUT the shorter one",
    ),
    Rule(
        ("request_timeout", "max_request_timeout"),
        lambda v: v["request_timeout"] <= v["max_request_timeout"],
        "raise MAX_REQUEST_TIMEOUT, the most that any route may take, or lower REQUEST_TIMEOUT",
    ),
    Rule(
        ("max_request_timeout", "database_statement_timeout"),
        lambda v: v["max_request_timeout"] <= v["database_statement_timeout"],
        "the server's net would cut off queries whose request still has time: "
        "raise DATABASE_STATEMENT_TIMEOUT",
    ),
    Rule(
        ("drain_delay", "max_request_timeout", "graceful_timeout"),
        lambda v: (
            v["drain_delay"] + v["max_request_timeout"] + BACKGROUND_DRAIN < v["graceful_timeout"]
        ),
        "a stopping worker would be killed with requests in flight: GRACEFUL_TIMEOUT must exceed "
        f"DRAIN_DELAY + MAX_REQUEST_TIMEOUT + {BACKGROUND_DRAIN:g} s of background drain",
    ),
    Rule(
        ("database_pool_size", "concurrency"),
        lambda v: v["database_pool_size"] >= v["concurrency"],
        "running requests would wait for each other's connections: "
        "raise DATABASE_POOL_SIZE or lower CONCURRENCY",
    ),
)


def faults(values: Mapping[str, Any], *, known: Callable[[str], bool]) -> list[str]:
    """One line for each rule that fails, of those whose settings are all ``known``."""
    return [
        f"{' and '.join(f'{name.upper()}={values[name]}' for name in rule.names)}: {rule.remedy}"
        for rule in RULES
        if all(known(name) for name in rule.names) and not rule.holds(values)
    ]
