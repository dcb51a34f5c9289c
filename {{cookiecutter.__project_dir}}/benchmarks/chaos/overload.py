"""More than a server can take."""

from __future__ import annotations

import statistics
import time

from benchmarks.chaos.figures import Numbers
from benchmarks.chaos.measure import Load, closed_loop, health_of, percentile
from benchmarks.chaos.subjects import CONCURRENCY, Start, get

_SECONDS = 6


def waiting(start: Start) -> Numbers:
    """Ten times the requests that its threads have time for; each waits 100 ms."""
    return _overload(start, "/wait", CONCURRENCY / 0.1)


def computing(start: Start) -> Numbers:
    """The same with 20 ms of computing each; what its core has time for is measured."""
    return _overload(start, "/burn", None)


def _overload(start: Start, path: str, capacity: float | None) -> Numbers:
    with start() as server:
        calm = Load(server.port, path, 8, 5).result().load
        unloaded = percentile([took for _, took, s in calm if s == 200], 0.99)
        before = capacity or closed_loop(server.port, path, 3)
        result = Load(server.port, path, 10 * before, _SECONDS).result()
        recovered = _recovery(server.port, path)
        # What else the machine does may change within a minute: before and after.
        most = capacity or statistics.mean([before, closed_loop(server.port, path, 3)])
    good = [took for due, took, s in result.load if s == 200 and due >= 1]
    return {
        "goodput / capacity": len(good) / (_SECONDS - 1) / most,
        "p99 accepted / unloaded": percentile(good, 0.99) / unloaded,
        "recovered after s": recovered,
        **health_of(result),
    }


def _recovery(port: int, path: str) -> float:
    """Seconds until a request is answered within half of one."""
    stopped = time.monotonic()
    while time.monotonic() - stopped < 60:
        began = time.monotonic()
        try:
            if get(port, path) == 200 and time.monotonic() - began < 0.5:
                break
        except OSError:
            continue
    return time.monotonic() - stopped
