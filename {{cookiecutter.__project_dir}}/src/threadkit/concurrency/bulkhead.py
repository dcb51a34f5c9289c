"""At most so many at once, and at most so many in line: the bound around a scarce thing.

Go's counterpart is a buffered channel used as a semaphore.

    reports = Bulkhead("reports", max_concurrent=2, max_waiting=8, max_wait=0.5)

    with reports:            # or @reports on a function
        render(report)

What does not fit is refused with `Saturated` while it is still cheap to say so.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import ParamSpec, TypeVar

from ._parking import Parker
from .cancel_scope import current
from .errors import Cancelled, DeadlineExceeded, ExpiredInLine, Saturated, WaitedInVain
from .registry import register
from .scope import park
from .timeline import Span

P = ParamSpec("P")
T = TypeVar("T")


class _Waiter:
    """One thread in line. `granted` is guarded by the bulkhead's lock."""

    __slots__ = ("granted", "parker")

    def __init__(self) -> None:
        self.parker = Parker()
        self.granted = False


class Bulkhead:
    """At most `max_concurrent` inside and `max_waiting` waiting, first come first served.

    Entering waits at most `min(max_wait, remaining())` seconds (`max_wait=None`: as long as the
    scope lasts), else raises `Saturated`, which is a `WaitedInVain` after a wait; when it was the
    scope's deadline, an error that is also `DeadlineExceeded`; when the scope is cancelled,
    `Cancelled` at once. A scope that is over gets no permit at all.

    A context manager and a decorator; thread-safe; one object for all threads. A permit is handed
    from the leaver to the first in line, so nobody overtakes, and a waiter that leaves in the
    moment of the hand-over passes the permit on. It is not re-entrant: entering twice in one
    thread takes two permits, and with `max_concurrent=1` waits for itself. It does not know who
    holds a permit. A forked child starts with all permits free.
    """

    def __init__(
        self,
        name: str,
        max_concurrent: int,
        max_waiting: int = 0,
        max_wait: float | None = None,
    ) -> None:
        if max_concurrent < 1 or max_waiting < 0:
            raise ValueError(
                f"bulkhead {name!r}: max_concurrent={max_concurrent} must be at least 1 and "
                f"max_waiting={max_waiting} at least 0"
            )
        if max_wait is not None and not max_wait >= 0:
            raise ValueError(
                f"bulkhead {name!r}: max_wait={max_wait} must be zero or more seconds, or None "
                "to wait as long as the scope lasts"
            )
        self.name = name
        self.max_concurrent = max_concurrent
        self.max_waiting = max_waiting
        self.max_wait = max_wait
        self._forked = False
        self._start_afresh()
        register("bulkhead", self)

    def _start_afresh(self) -> None:
        # _lock guards max_concurrent and every field below it. Nothing but this class runs under
        # it.
        self._lock = threading.Lock()
        self._inside = 0
        self._line: deque[_Waiter] = deque()
        self._admitted = self._rejected = 0
        self._waited = 0.0

    def _after_fork(self) -> None:
        self._start_afresh()
        self._forked = True

    def acquire(self) -> None:
        """Take a permit, waiting for it if allowed; pair it with `release` in a `finally`."""
        scope = current.get()
        if scope is not None:
            scope.checkpoint()
        with self._lock:
            if self._inside < self.max_concurrent:
                self._inside += 1
                self._admitted += 1
                return
            if len(self._line) >= self.max_waiting:
                self._rejected += 1
                raise self._full("nobody else may wait")
            waiter = _Waiter()
            self._line.append(waiter)
        with Span("wait", f"bulkhead {self.name}"):
            self._wait(waiter)

    def try_acquire(self) -> bool:
        """Take a permit if one is free now; True if so. Pair it with `release` then."""
        with self._lock:
            if self._inside >= self.max_concurrent:
                return False
            self._inside += 1
            self._admitted += 1
            return True

    def resize(self, max_concurrent: int) -> None:
        """Allow so many from now on. Those inside stay, more of the waiting enter at once."""
        if max_concurrent < 1:
            raise ValueError(
                f"bulkhead {self.name!r}: max_concurrent={max_concurrent} must be at least 1"
            )
        with self._lock:
            self.max_concurrent = max_concurrent
            while self._line and self._inside < max_concurrent:
                self._inside += 1
                self._pass_on()

    def release(self) -> None:
        """Give the permit back, to the first in line if somebody waits."""
        with self._lock:
            if self._inside == 0:
                if self._forked:
                    return  # taken before the fork: it was the parent's
                raise RuntimeError(
                    f"bulkhead {self.name!r} was released more often than acquired: use `with`, "
                    "which pairs them"
                )
            self._pass_on()

    def _pass_on(self) -> None:
        # Under _lock. The count stays when the permit changes hands.
        if self._line and self._inside <= self.max_concurrent:
            waiter = self._line.popleft()
            waiter.granted = True
            self._admitted += 1
            waiter.parker.unpark()
        else:
            self._inside -= 1

    def _wait(self, waiter: _Waiter) -> None:
        began = monotonic()
        end = math.inf if self.max_wait is None else began + self.max_wait
        done = False
        error: Cancelled | None = None
        try:
            while not waiter.granted:
                scope = current.get()
                if scope is not None and scope.over:
                    error = scope.error()
                    break
                left = end - monotonic()
                if left <= 0:
                    break
                park(waiter.parker, None if left == math.inf else left)
            done = True
        finally:
            with self._lock:
                granted = waiter.granted
                self._waited += monotonic() - began
                if not granted:
                    self._line.remove(waiter)
                    self._rejected += 1
                elif not done:  # a KeyboardInterrupt took the thread out of here
                    self._pass_on()
        if granted:
            return
        if isinstance(error, DeadlineExceeded):
            text = f"no permit of bulkhead {self.name!r} before the deadline: {error.reason}"
            raise ExpiredInLine(text, error.scope)
        raise error or self._full(f"no permit came free in {self.max_wait:g} s", WaitedInVain)

    def _full(self, why: str, kind: type[Saturated] = Saturated) -> Saturated:
        return kind(
            f"bulkhead {self.name!r} is full: {self.max_concurrent} inside, "
            f"{len(self._line)}/{self.max_waiting} waiting, and {why}. Try again later, or raise "
            "max_concurrent, max_waiting or max_wait"
        )

    def __enter__(self) -> Bulkhead:
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Let every call of `fn` go through this bulkhead."""

        @functools.wraps(fn)
        def inside(*args: P.args, **kwargs: P.kwargs) -> T:
            with self:
                return fn(*args, **kwargs)

        return inside

    def stats(self) -> dict[str, float]:
        """Who is `inside` and `waiting` now; `admitted`, `rejected`, seconds waited in all."""
        with self._lock:
            return {
                "inside": self._inside,
                "waiting": len(self._line),
                "max_concurrent": self.max_concurrent,
                "max_waiting": self.max_waiting,
                "admitted": self._admitted,
                "rejected": self._rejected,
                "wait_seconds_total": self._waited,
            }

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<Bulkhead {self.name!r} {stats['inside']}/{self.max_concurrent} inside, "
            f"{stats['waiting']}/{self.max_waiting} waiting>"
        )
