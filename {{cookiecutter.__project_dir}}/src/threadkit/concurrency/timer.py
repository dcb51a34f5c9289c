"""One thread that calls functions at points in time: deadlines with a callback need it.

Go's counterpart is the runtime's timer heap behind `time.AfterFunc`. Threads that wait keep their
own time (a lock's acquire has a time-out), so only `CancelScope.on_cancel` comes here:

    handle = timer.call_at(time.monotonic() + 0.5, connection.close)
    timer.cancel(handle)

The thread starts with the first entry and leaves at most `LINGER` seconds after the last one went.
It may stay that long so that requests which come and go do not start a thread each.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from contextvars import Context

LINGER = 0.25
"""Seconds that the thread may stay without work."""

_COMPACT_FROM = 64
"""Cancelled entries below this number are not worth a rebuild of the heap."""

_logger = logging.getLogger(__name__)


class TimerHandle:
    """One entry. `fn` is None once it has fired or has been cancelled."""

    __slots__ = ("fn", "order", "when")

    def __init__(self, when: float, order: int, fn: Callable[[], object]) -> None:
        self.when = when
        self.order = order
        self.fn: Callable[[], object] | None = fn

    def __lt__(self, other: TimerHandle) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class Timer:
    """A heap of entries with lazy deletion, and the thread that serves it.

    Thread-safe. Times are `time.monotonic()` seconds. Functions run one after another on the
    timer's thread, never under its lock, so they must be quick; their errors are logged. It does
    not repeat and does not report that something ran late.

    A forked child starts with an empty heap: what was planned belongs to the parent, and closing
    a socket that parent and child share would break the parent's connection.
    """

    def __init__(self) -> None:
        self._order = itertools.count()
        self._reset()

    def _reset(self) -> None:
        # The condition's lock guards every field below it.
        self._wake = threading.Condition(threading.Lock())
        self._heap: list[TimerHandle] = []
        self._live = 0
        self._next_look = 0.0
        self._thread: threading.Thread | None = None

    def call_at(self, when: float, fn: Callable[[], object]) -> TimerHandle:
        """Call `fn` on the timer's thread at monotonic time `when`, or soon after."""
        handle = TimerHandle(when, next(self._order), fn)
        starting: threading.Thread | None = None
        with self._wake:
            heapq.heappush(self._heap, handle)
            self._live += 1
            if self._thread is None:
                starting = threading.Thread(target=self._run, name="threadkit-timer", daemon=True)
                self._thread = starting
            elif when < self._next_look:
                self._wake.notify()
        if starting is not None:
            # A new thread may not inherit a request's context (Python 3.14 can do that), and
            # start() waits for it to come up: no place for a lock.
            try:
                Context().run(starting.start)
            except BaseException:
                with self._wake:
                    self._thread = None
                raise
        return handle

    def cancel(self, handle: TimerHandle) -> bool:
        """Forget an entry. False: it has fired, is firing, or was cancelled before."""
        with self._wake:
            if handle.fn is None:
                return False
            handle.fn = None
            self._live -= 1
            # The thread is not woken: it looks by itself every LINGER seconds at the latest.
            if self._live == 0:
                self._heap.clear()
            elif len(self._heap) - self._live > max(self._live, _COMPACT_FROM):
                self._heap = [entry for entry in self._heap if entry.fn is not None]
                heapq.heapify(self._heap)
            return True

    def owns(self, thread: threading.Thread) -> bool:
        """True for the thread that serves it now."""
        return thread is self._thread

    def stats(self) -> dict[str, float]:
        """`live` entries, `held` entries (live and not yet swept), `threads` (0 or 1)."""
        with self._wake:
            running = int(self._thread is not None)
            return {"live": self._live, "held": len(self._heap), "threads": running}

    def __repr__(self) -> str:
        stats = self.stats()
        state = "running" if stats["threads"] else "asleep"
        return f"<Timer {state}, {stats['live']:.0f} live of {stats['held']:.0f} held>"

    def _run(self) -> None:
        while True:
            with self._wake:
                fn = self._pop_due()
                if fn is None:
                    if self._live == 0 and time.monotonic() >= self._next_look:
                        # Under the lock: call_at sees either this thread, which will look
                        # again, or none, and starts one. No entry falls between.
                        self._thread = None
                        return
                    self._wait_for_next()
                    continue
            try:
                fn()
            except Exception:
                _logger.exception("a timer's function failed: %r", fn)
            del fn  # not kept alive by an idle thread

    def _pop_due(self) -> Callable[[], object] | None:
        heap = self._heap
        while heap and (heap[0].fn is None or heap[0].when <= time.monotonic()):
            handle = heapq.heappop(heap)
            fn, handle.fn = handle.fn, None
            if fn is not None:
                self._live -= 1
                return fn
        return None

    def _wait_for_next(self) -> None:
        now = time.monotonic()
        self._next_look = now + LINGER
        if self._heap:
            self._next_look = min(self._next_look, self._heap[0].when)
        self._wake.wait(max(0.0, self._next_look - now))


timer = Timer()
"""The process's one timer."""

os.register_at_fork(after_in_child=timer._reset)
