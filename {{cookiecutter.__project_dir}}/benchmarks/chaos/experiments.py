"""The experiments: what is done to both servers, and what is wanted of which number.

Rounds of the two take turns. Stock gunicorn gets one where it is only there to be looked at,
since it may need a minute to recover.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import disconnects
from benchmarks.chaos import clients, lives, overload
from benchmarks.chaos.cost import cost
from benchmarks.chaos.figures import (
    Numbers,
    Wanted,
    always,
    at_least,
    at_most,
    never_more,
    shown,
    within,
)
from benchmarks.chaos.subjects import Start, subject

Rounds = tuple[list[Numbers], list[Numbers]]
"""Of stock gunicorn, and of this service."""


@dataclass(frozen=True)
class Experiment:
    """How both are measured, and the rows that come of it."""

    run: Callable[[], Rounds]
    wanted: tuple[Wanted, ...]


def rounds(run: Callable[[Start], Numbers], count: int, *, stock: int = 1) -> Callable[[], Rounds]:
    """The same for both, so many times."""

    def both() -> Rounds:
        numbers: Rounds = ([], [])
        for number in range(count):
            for name, into, most in zip(("stock", "ours"), numbers, (stock, count), strict=True):
                if number < most:
                    into.append(run(functools.partial(subject, name)))
        return numbers

    return both


_HEALTH = (always("health answered", 1.0), within("health p99 ms", 250.0))
_NOBODY_FAILS = (
    never_more("failed requests", 0),
    shown("of them refused, 503"),
    shown("asked"),
    always("runs that it was done in", 10),
    shown("goes on answering for s"),
)

EXPERIMENTS: dict[str, Experiment] = {
    "overload": Experiment(
        rounds(overload.waiting, 3),
        (
            at_least("goodput / capacity", 0.95),
            at_most("p99 accepted / unloaded", 3.0),
            within("recovered after s", 1.0),
            always("health answered", 1.0),
            shown("health p99 ms"),
        ),
    ),
    "overload_cpu": Experiment(
        rounds(overload.computing, 3),
        (
            at_least("goodput / capacity", 0.8),
            within("recovered after s", 1.0),
            shown("health answered"),
            shown("health p99 ms"),
        ),
    ),
    "slow": Experiment(
        rounds(clients.slow, 3), (at_least("throughput / undisturbed", 0.8), *_HEALTH)
    ),
    "lingering": Experiment(rounds(clients.lingering, 1), (within("p50 of others ms", 50.0),)),
    "flood": Experiment(rounds(clients.flood, 3), _HEALTH),
    "bad_input": Experiment(rounds(clients.bad_input, 3), _HEALTH),
    "slow_readers": Experiment(rounds(clients.slow_readers, 3), _HEALTH),
    "leaving": Experiment(
        rounds(clients.leaving, 1),
        (within("work goes on, p50 ms", 5.0), within("work goes on, p99 ms", 100.0)),
    ),
    "disconnects": Experiment(
        lambda: ([], [disconnects.experiments()]),
        (
            shown("clients that left"),
            shown("before their answer"),
            shown("innocent requests"),
            never_more("innocents cancelled", 0),
            never_more("descriptors leaked", 0),
            never_more("threads leaked", 0),
            within("request ends after, p50 ms", 5.0),
            within("request ends after, p99 ms", 100.0),
        ),
    ),
    "stop": Experiment(rounds(lives.signalled(signal.SIGTERM, 10), 1), _NOBODY_FAILS),
    "reload": Experiment(rounds(lives.signalled(signal.SIGHUP, 10), 1), _NOBODY_FAILS),
    "kill": Experiment(
        rounds(lives.kill, 3, stock=3),
        (
            shown("failed requests"),
            never_more("of them not in flight", 2),
            within("a new worker answers after s", 3.0),
            within("capacity back after s", 3.0),
        ),
    ),
    "stuck": Experiment(
        rounds(lives.stuck, 3),
        (
            within("replaced, beyond deadline + grace, s", 5.0),
            never_more("failed requests of others", 0),
        ),
    ),
    "burst": Experiment(
        rounds(lives.burst, 1),
        (at_least("lesser share", 0.3), always("lesser share, worst of 10", 0.15)),
    ),
    "cost": Experiment(
        cost,
        (
            at_least("throughput / stock", 0.9),
            shown("processor time / stock"),
            shown("requests a second"),
            shown("processor us a request"),
        ),
    ),
}
