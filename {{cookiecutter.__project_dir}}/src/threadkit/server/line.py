"""The places of a worker in which requests run, and the line in front of them.

The line holds connections, not threads: who waits costs nothing, and whoever leaves a place
takes the next request along in the same thread, without waking another one. A request that
finds the line full hears it from the main thread, in a fraction of what a thread would cost.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum

from threadkit.server.connection import Connection


class Verdict(Enum):
    """What becomes of a request that has just arrived."""

    RUN = "there is a place"
    WAIT = "it stands in line"
    REFUSE = "the line is full"


class Line:
    """At most ``places`` run, at most ``most`` wait, first come first served. Thread-safe."""

    def __init__(self, places: int, most: int) -> None:
        self._places = places
        self._most = most
        # Guards all below it; nothing else is called under it.
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[Connection] = deque()
        self._refused = self._expired = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, connection: Connection) -> Verdict:
        """Take a place, or stand in line, or neither."""
        with self._lock:
            if self._running < self._places:
                self._running += 1
                return Verdict.RUN
            if len(self._waiting) < self._most:
                self._waiting.append(connection)
                return Verdict.WAIT
            self._refused += 1
            return Verdict.REFUSE

    def leave(self) -> Connection | None:
        """Give up a place: to the first in line, whom the caller serves, or to whoever comes."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._running -= 1
            return None

    def expired(self, before: float) -> list[Connection]:
        """Take those out of the line whose request was complete before that moment."""
        expired = []
        with self._lock:
            while self._waiting and self._waiting[0].arrived <= before:
                expired.append(self._waiting.popleft())
            self._expired += len(expired)
        return expired

    def first(self) -> float | None:
        """Since when the first in line has waited."""
        with self._lock:
            return self._waiting[0].arrived if self._waiting else None

    def stats(self) -> dict[str, int]:
        """Who runs and waits now, and how many were refused or have waited in vain."""
        with self._lock:
            return {
                "running": self._running,
                "waiting": len(self._waiting),
                "places": self._places,
                "most_waiting": self._most,
                "refused": self._refused,
                "expired": self._expired,
            }
