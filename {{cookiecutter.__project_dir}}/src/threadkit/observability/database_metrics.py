"""The database's numbers as metrics, published about once a second.

A gauge that follows every checkout would cost a mapped file's write twice a query. The pools
count for themselves; this copies their numbers. What is a total there is a counter here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from threadkit.observability import metrics

_POOLS: Final = ("read", "write")
_STATES: Final = ("in_use", "idle", "size", "waiting")
_POOL_EVENTS: Final = ("waits", "exhausted")
_EVENTS: Final = ("connects", "invalidations", "cancelled", "dropped", "leaked")


class DatabaseMetrics:
    """Remembers what it has published; one thread calls ``publish``."""

    def __init__(self) -> None:
        self._published: dict[str, float] = {}
        self._pid = os.getpid()

    def publish(self, totals: Mapping[str, float]) -> None:
        """Copy ``Database.totals()`` to the metrics."""
        if self._pid != os.getpid():  # a forked child's totals begin anew
            self._published, self._pid = {}, os.getpid()
        for pool in _POOLS:
            for state in _STATES:
                metrics.CONNECTIONS.labels(pool, state).set(totals.get(f"{pool}_{state}", 0))
            metrics.WAITED.labels(pool).inc(self._new(totals, f"{pool}_wait_seconds"))
            for event in _POOL_EVENTS:
                grown = self._new(totals, f"{pool}_{event}")
                metrics.DATABASE.labels(f"{pool}_{event}").inc(grown)
        for event in _EVENTS:
            metrics.DATABASE.labels(event).inc(self._new(totals, event))

    def _new(self, totals: Mapping[str, float], name: str) -> float:
        total = totals.get(name, 0)
        grown = total - self._published.get(name, 0)
        self._published[name] = total
        return max(0.0, grown)
