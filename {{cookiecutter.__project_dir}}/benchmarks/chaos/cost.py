"""What all of it costs where nothing is wrong: a trivial endpoint."""

from __future__ import annotations

import statistics

from benchmarks.chaos.figures import Numbers
from benchmarks.chaos.measure import closed_loop
from benchmarks.chaos.subjects import Subject, subject

_ROUNDS = 11


def cost() -> tuple[list[Numbers], list[Numbers]]:
    """Both servers are up and take turns, so that what else the machine does hits both.

    Their ratio is taken within each round; its median counts.
    """
    with subject("stock") as stock, subject("ours") as ours:
        for server in (stock, ours):
            closed_loop(server.port, "/quick", 1)
        rounds = [(_measure(stock), _measure(ours)) for _ in range(_ROUNDS)]
    rate = statistics.median(b[0] / a[0] for a, b in rounds)
    cpu = statistics.median(b[1] / a[1] for a, b in rounds)
    ratios = {"throughput / stock": rate, "processor time / stock": cpu}
    return [_medians([a for a, _ in rounds])], [ratios | _medians([b for _, b in rounds])]


def _measure(server: Subject) -> tuple[float, float]:
    """Requests a second, and microseconds of processor time for each."""
    seconds, before = 2, server.cpu_seconds()
    rate = closed_loop(server.port, "/quick", seconds)
    return rate, 1e6 * (server.cpu_seconds() - before) / (rate * seconds)


def _medians(rounds: list[tuple[float, float]]) -> Numbers:
    return {
        "requests a second": statistics.median(r for r, _ in rounds),
        "processor us a request": statistics.median(c for _, c in rounds),
    }
