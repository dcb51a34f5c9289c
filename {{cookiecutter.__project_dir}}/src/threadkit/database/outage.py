"""An outage in the log: when it begins, every so often while it lasts, and when it is over.

Each request that meets it is answered 503, and its line in the log says no more than that. The
reason, with the server's own words, is told here: neither a thousand times, nor to callers.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Final

import structlog

log = structlog.get_logger("threadkit.database")

EVERY: Final = 10.0
"""Seconds between two lines."""
FORGOTTEN: Final = 60.0
"""Seconds without a failure, after which the next one begins another outage: over is said only
where somebody asks after the database's health."""


class Outage:
    """Of one process. Thread-safe."""

    def __init__(self) -> None:
        # Guards all below it; nothing is written under it.
        self._lock = threading.Lock()
        self._began = self._told = self._last = -math.inf
        self._met = 0

    def met(self, reason: str) -> None:
        """Somebody could not use the database, for this reason."""
        now = time.monotonic()
        with self._lock:
            self._met += 1
            if now - self._last > FORGOTTEN:
                self._began, self._told, self._met = now, -math.inf, 1
            self._last = now
            if now - self._told < EVERY:
                return
            self._told = now
            met, self._met = self._met, 0
            lasts = now - self._began
        log.warning(
            "the database cannot be used, and requests that need it are answered 503",
            reason=reason,
            failures=met,
            seconds=round(lasts, 1),
        )

    def over(self) -> None:
        """It answers; says so if it was told that it does not."""
        with self._lock:
            if self._told == -math.inf:
                return
            lasts = time.monotonic() - self._began
            self._told = self._last = -math.inf
        log.info("the database can be used again", seconds=round(lasts, 1))
