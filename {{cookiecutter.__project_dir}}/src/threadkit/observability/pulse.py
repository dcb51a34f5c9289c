"""How late a thread gets the interpreter back: a measure of contention for the GIL.

A small thread sleeps for a tenth of a second and notes by how much it overslept. In a healthy
worker that is well below a millisecond; where threads compute, each of them may keep the
interpreter for 5 ms (``sys.getswitchinterval``), and every answer pays for it. A machine with
too few cores looks the same from here. Go's counterpart is the scheduler's latency histogram in
``runtime/metrics``.

Ten wake-ups a second cost one or two thousandths of a core.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

INTERVAL: Final = 0.1
"""Seconds between two measurements."""
BEATS: Final = 10
"""Measurements between two calls of what wants to be called each second."""
KEPT: Final = 600
"""Measurements that the figures are taken from: those of the last minute."""


_logger = logging.getLogger(__name__)


class Pulse:
    """A ``Resource`` with one thread. ``stats`` may be called from any."""

    def __init__(self) -> None:
        self._lateness: deque[float] = deque(maxlen=KEPT)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._each_second: list[Callable[[], None]] = []

    def each_second(self, fn: Callable[[], None]) -> None:
        """Have ``fn`` called about once a second: quick, and better without errors."""
        self._each_second.append(fn)

    def __repr__(self) -> str:
        state = "beating" if self._thread is not None else "still"
        return f"<Pulse {state}, {len(self._lateness)} measurements>"

    def start(self) -> None:
        """Start to measure, in this process."""
        self._stop = threading.Event()
        self._lateness.clear()
        # daemon is the net for a process that ends without closing; close() joins.
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Forget the parent's thread."""
        self._thread = None

    def close(self) -> None:
        """Stop and join the thread."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def stats(self) -> Mapping[str, Any]:
        """Seconds late: ``last``, and ``p50``, ``p99`` and ``max`` of the last minute."""
        ordered = sorted(self._lateness.copy())
        if not ordered:
            return {"last": None, "p50": None, "p99": None, "max": None, "measurements": 0}
        return {
            "last": round(self._lateness[-1], 6),
            "p50": round(ordered[len(ordered) // 2], 6),
            "p99": round(ordered[len(ordered) * 99 // 100], 6),
            "max": round(ordered[-1], 6),
            "measurements": len(ordered),
        }

    def _run(self) -> None:
        for beat in itertools.count(1):
            if beat % BEATS == 0:
                self._call_each_second()
            due = monotonic() + INTERVAL
            if self._stop.wait(INTERVAL):
                return
            self._lateness.append(max(0.0, monotonic() - due))

    def _call_each_second(self) -> None:
        for fn in self._each_second:
            try:
                fn()
            except Exception:
                _logger.exception("%r failed", fn)
