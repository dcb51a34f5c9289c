"""How often the cycle collector runs and for how long it stops every thread.

Go's counterparts are ``NumGC`` and ``PauseTotalNs`` of ``runtime.MemStats``. CPython collects
with the GIL held, so a long collection of the oldest generation is a pause of the whole worker.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Mapping
from time import monotonic, perf_counter
from typing import Any, Final

WINDOW: Final = 60.0
"""Seconds to which ``pause_seconds_max`` refers."""


class Garbage:
    """A ``Resource`` that listens to the collector; costs less than a microsecond a collection.

    The collector never runs twice at once, so its callback needs no lock.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._pauses = 0.0
        self._last = 0.0
        self._longest: deque[tuple[float, float]] = deque(maxlen=256)

    def __repr__(self) -> str:
        return f"<Garbage {self._pauses:.3f} s of pauses>"

    def start(self) -> None:
        """Listen to the collector."""
        self._pauses = self._last = 0.0
        self._longest.clear()
        if self._listen not in gc.callbacks:
            gc.callbacks.append(self._listen)

    def abandon(self) -> None:
        """Nothing: a forked child has the parent's callback, and ``start`` keeps it."""

    def close(self) -> None:
        """Listen no more."""
        if self._listen in gc.callbacks:
            gc.callbacks.remove(self._listen)

    def stats(self) -> Mapping[str, Any]:
        """By generation: collections, collected, uncollectable. Pauses in seconds."""
        since = monotonic() - WINDOW
        recent = [pause for at, pause in self._longest.copy() if at >= since]
        return {
            "enabled": gc.isenabled(),
            "frozen": gc.get_freeze_count(),
            "thresholds": list(gc.get_threshold()),
            "waiting": list(gc.get_count()),
            "generations": gc.get_stats(),
            "pause_seconds_total": round(self._pauses, 6),
            "pause_seconds_last": round(self._last, 6),
            "pause_seconds_max": round(max(recent, default=0.0), 6),
        }

    def _listen(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
            return
        self._last = pause = perf_counter() - self._began
        self._pauses += pause
        # Young collections are many and short: they must not push the long ones out.
        if pause > 0.001:
            self._longest.append((monotonic(), pause))
