"""Where a thread sleeps until another thread wakes it: the one way to block in this package.

Go's counterpart is the runtime's `gopark` and `goready`. Every wait (a permit, a free place, a
load, a result) parks its thread here, so that cancellation has one thing to wake:

    parker = Parker()
    hand_to_another_thread(parker.unpark)
    parker.park(timeout=0.5)   # returns when woken or after the time: look which
"""

from __future__ import annotations

import threading


class Parker:
    """A binary wake-up that is remembered: an `unpark` before the `park` is not lost.

    Thread-safe. One thread parks, any number unpark, as often as they like. It says only "look
    again": the caller's own state, read under the caller's own lock, says what happened. A raw
    lock is the cheapest thing to block on that CPython has, and the only state there is.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def park(self, timeout: float | None = None) -> None:
        """Block until unparked or for `timeout` seconds (`None`: without limit)."""
        if timeout is None:
            self._lock.acquire()
        elif timeout > 0:
            self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))
        else:
            self._lock.acquire(blocking=False)

    def unpark(self) -> None:
        """Wake the parked thread, or let the next `park` return at once."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it was awake already: two wakers met, and one wake-up is enough

    def __repr__(self) -> str:
        return f"<Parker {'parked or free' if self._lock.locked() else 'woken'}>"
