"""What this process has answered: counts by status, and the slow ones with their timeline.

Two kinds of slow: requests that took more than half of their time limit, the last of them; and
the slowest of the last minutes, whatever they took. Streams have no time limit and are neither.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Final, NamedTuple

from threadkit.concurrency.timeline import Timeline

MOST_LATE: Final = 24
MOST_SLOWEST: Final = 8
WINDOW: Final = 120.0
"""Seconds for which the slowest are looked for; those of the window before stay listed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that is over. Times in seconds."""

    id: str
    method: str
    path: str
    route: str | None
    status: int
    seconds: float
    cpu_seconds: float
    limit: float
    timeline: Timeline
    waited: float = 0.0
    """Before it came to a thread; not in ``seconds``."""

    def document(self, *, reason: str) -> dict[str, Any]:
        """Itself as JSON; ``at`` is when it began, in seconds since 1970."""
        return {
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "route": self.route,
            "status": self.status,
            "at": round(time() - monotonic() + self.timeline.started, 3),
            "seconds": round(self.seconds, 6),
            "cpu_seconds": round(self.cpu_seconds, 6),
            "limit_seconds": round(self.limit, 6),
            "waited_seconds": round(self.waited, 6),
            "reason": reason,
            "spans": self.timeline.document(),
            "spans_dropped": self.timeline.dropped,
        }


class _Ranked(NamedTuple):
    seconds: float
    number: int  # of two that took the same, so that the answers themselves are never compared
    answered: Answered


class Ledger:
    """Counts answers and keeps the slow ones. Thread-safe."""

    def __init__(self) -> None:
        # Guards every field below. Nothing but this class runs under it.
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}
        self._late: deque[Answered] = deque(maxlen=MOST_LATE)
        self._slowest: list[_Ranked] = []
        self._before: list[_Ranked] = []
        self._turns = monotonic() + WINDOW
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Ledger {sum(self._counts.values())} answered, {len(self._late)} late>"

    def count(self, status: int) -> None:
        """One more answer with this status."""
        with self._lock:
            self._counts[status] = self._counts.get(status, 0) + 1

    def wants(self, seconds: float, limit: float) -> bool:
        """Whether ``keep`` would; asked first, since most requests are neither late nor slow."""
        slowest = self._slowest
        return (
            seconds >= limit / 2
            or len(slowest) < MOST_SLOWEST
            or seconds > slowest[0].seconds
            or monotonic() >= self._turns
        )

    def keep(self, answered: Answered) -> None:
        """Remember a slow request, for as long as none that is slower takes its place."""
        with self._lock:
            if answered.seconds >= answered.limit / 2:
                self._late.append(answered)
                return
            if (now := monotonic()) >= self._turns:
                self._before = self._slowest if now < self._turns + WINDOW else []
                self._slowest = []
                self._turns = now + WINDOW
            ranked = _Ranked(answered.seconds, next(self._numbers), answered)
            if len(self._slowest) < MOST_SLOWEST:
                heapq.heappush(self._slowest, ranked)
            else:
                heapq.heappushpop(self._slowest, ranked)

    def answered(self) -> dict[str, int]:
        """How many answers there were, by status."""
        with self._lock:
            return {str(status): count for status, count in sorted(self._counts.items())}

    def slow(self) -> list[dict[str, Any]]:
        """The slow ones as JSON: the late first, the latest first; then the slowest."""
        with self._lock:
            late = list(self._late)
            slowest = sorted([*self._before, *self._slowest], reverse=True)
        return [
            *(answered.document(reason="late") for answered in reversed(late)),
            *(ranked.answered.document(reason="slowest") for ranked in slowest),
        ]
