"""The places of a worker in which requests run, and the line in front of them.

The line holds connections, not threads: who waits costs nothing, and whoever leaves a place
takes the next request along in the same thread, without waking another one. A request that
finds the line full hears it from the main thread, in a fraction of what a thread would cost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from enum import Enum
from typing import Final

from threadkit.server.connection import Connection

BRISK: Final = 0.002
PATIENCE: Final = 0.001
MOST_PATIENCE: Final = 0.02


class Verdict(Enum):
    """What becomes of a request that has just arrived."""

    RUN = "there is a place"
    WAIT = "it stands in line"
    REFUSE = "the line is full"


class Line:
    """At most ``places`` run, at most ``most`` wait, first come first served. Thread-safe.

    As long as requests are done in less than BRISK seconds, one that comes while others run
    waits for up to PATIENCE for one of their threads, instead of waking a further one, and up to
    MOST_PATIENCE where the process is busy all the time: under one interpreter lock a thread
    that wakes up then only waits together with the others.
    """

    def __init__(self, places: int, most: int) -> None:
        self._places = places
        self._most = most
        # Guards all below it; nothing else is called under it.
        self._lock = threading.Lock()
        self._running: set[Connection] = set()
        self._waiting: deque[Connection] = deque()
        self._refused = self._expired = 0
        self._took = 0.0  # how long requests take, lately; threads may overwrite each other

    def __len__(self) -> int:
        return len(self._waiting)

    def fill(self) -> float:
        """How full it is, 0 to 1."""
        return len(self._waiting) / (self._most or 1)

    def enter(self, connection: Connection, *, patient: bool = False) -> Verdict:
        """Take a place, or stand in line, or neither.

        Who is ``patient`` may stand in line though there is a place, and asks ``next`` soon.
        """
        with self._lock:
            if patient:
                # Who is answered already looks for more of its client, and not at the line.
                patient = (
                    self._took < BRISK
                    and len(self._waiting) < self._most
                    and not all(c.answered for c in self._running)
                )
            if len(self._running) < self._places and not patient:
                self._running.add(connection)
                return Verdict.RUN
            # Who has had the answer may ask again before the thread has left the place.
            waiting = len(self._waiting)
            if waiting < self._most or waiting < self._most + sum(
                c.answered for c in self._running
            ):
                self._waiting.append(connection)
                return Verdict.WAIT
            self._refused += 1
            return Verdict.REFUSE

    def leave(self, connection: Connection) -> Connection | None:
        """Give up a place: to the first in line, whom the caller serves, or to whoever comes."""
        with self._lock:
            self._running.remove(connection)
            if not self._waiting:
                return None
            first = self._waiting.popleft()
            self._running.add(first)
            return first

    def took(self, seconds: float) -> None:
        """A request has held its place for so long."""
        self._took += (seconds - self._took) / 8

    def is_busy(self) -> bool:
        """Whether who comes now has to wait for a place."""
        return len(self._running) >= self._places

    def has_free_place(self) -> bool:
        """Whether somebody waits although there is a place."""
        return bool(self._waiting) and len(self._running) < self._places

    def next(self, patience: float) -> Connection | None:
        """The first in line, now with a place, if it has been patient for so many seconds."""
        with self._lock:
            if not self._waiting or len(self._running) >= self._places:
                return None
            if self._waiting[0].arrived + patience > time.monotonic() and self._running:
                return None
            first = self._waiting.popleft()
            self._running.add(first)
            return first

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
                "running": len(self._running),
                "waiting": len(self._waiting),
                "places": self._places,
                "most_waiting": self._most,
                "refused": self._refused,
                "expired": self._expired,
            }
