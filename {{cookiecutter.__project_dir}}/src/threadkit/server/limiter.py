"""``LIMITER=aimd``: how many requests run at once follows from how long they take.

    limiter = AdaptiveLimit(most=32)
    if (limit := limiter.observe(route, seconds)) is not None:
        bulkhead.resize(limit)

TCP's congestion control, applied to a service: one more for each round in which all went well,
a tenth fewer when an answer takes three times as long as its route usually does. It helps where
the bottleneck is elsewhere (a database that slows down under load) and CONCURRENCY is a guess.
The default is the fixed number, which is as good where it is right.
"""

from __future__ import annotations

import threading
import time
from typing import Final

LONG: Final = 3.0
"""So many times the usual time of a route is a sign of overload."""
FEWER: Final = 0.9

_STEP: Final = 0.005
"""By which part an estimate moves with each answer: a lasting change is learned in hundreds."""
_BUSY_STEP: Final = _STEP / 20
"""The same of an answer that was made while all places were taken. What overload does must not
become the usual, or the limit would follow it up to the most."""
_LEARNING: Final = 100
_KNOWN: Final = 20
"""Answers of a route before its usual time is believed."""


class _Usual:
    """The median of a stream of times, estimated in constant space."""

    __slots__ = ("seconds", "seen")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.seen = 0

    def add(self, seconds: float, *, busy: bool) -> None:
        self.seen += 1
        step = _BUSY_STEP if busy else _STEP
        if self.seen <= _LEARNING:  # in large steps: the first answer may have been a cold one
            step = max(step, 1 / (self.seen + 4))
        self.seconds *= 1 + step if seconds > self.seconds else 1 - step


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, between 1 and ``most``. Thread-safe.

    The routes' times are kept apart, so that a slow route is no sign of overload. Times that
    were spent waiting for a place do not belong here.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Guards all below it.
        self._lock = threading.Lock()
        self._limit = float(most)
        self._well = 0
        self._lowered = 0.0
        self._usual: dict[str | None, _Usual] = {}

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.limit} of {self._most}>"

    @property
    def limit(self) -> int:
        """Requests that may run at once."""
        return max(1, int(self._limit))

    def observe(self, route: str | None, seconds: float, *, busy: bool = True) -> int | None:
        """An answer took that long; the new limit where that changes it.

        ``busy`` says whether all places were taken: with room left, all going well proves nothing.
        """
        with self._lock:
            before = self.limit
            usual = self._usual.setdefault(route, _Usual(seconds))
            usual.add(seconds, busy=busy)
            if usual.seen > _KNOWN and seconds > LONG * usual.seconds:
                self._lower(seconds)
            elif busy:
                self._well += 1
                if self._well >= self._limit:
                    self._limit = min(self._limit + 1, float(self._most))
                    self._well = 0
            return self.limit if self.limit != before else None

    def _lower(self, seconds: float) -> None:
        self._well = 0
        # Those that were under way together are late together: they count once.
        now = time.monotonic()
        if now - self._lowered >= seconds:
            self._limit = max(1.0, self._limit * FEWER)
            self._lowered = now
