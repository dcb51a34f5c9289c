"""The ``mutex`` profile: who held the locks that others waited for.

CPython keeps no account of its locks, so this is for those that opt in, by being made here:

    from threadkit.profiling.locks import ProfiledLock

    orders = ProfiledLock("orders")     # a threading.Lock that keeps accounts

As in Go the stack that is charged is the holder's, when it releases: that is the code to make
shorter. An acquire that finds the lock free costs one attempt more than a plain lock.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from types import TracebackType
from typing import Final

from threadkit.profiling.classify import sites_of
from threadkit.profiling.profile import Profile, Stack, ValueType, labels
from threadkit.profiling.threads import frames

DEEPEST: Final = 32
MOST_STACKS: Final = 1000
"""Places of one lock; beyond them only the sum is kept."""

_locks: weakref.WeakSet[ProfiledLock] = weakref.WeakSet()


class ProfiledLock:
    """A ``threading.Lock`` by its behaviour. Thread-safe; not reentrant.

    Counts waits that a holder has caused, and their seconds, by the place of its release.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        # Guards _since and _waited. Held for a few instructions, never around the lock itself.
        self._books = threading.Lock()
        self._since: dict[int, float] = {}  # by thread: from when on its wait is not yet charged
        self._waited: dict[Stack, list[int]] = {}
        _locks.add(self)

    def __repr__(self) -> str:
        state = "locked" if self._lock.locked() else "unlocked"
        return f"<ProfiledLock {self.name!r} {state}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Threads that wait for it now."""
        return len(self._since)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As ``threading.Lock.acquire``."""
        if self._lock.acquire(blocking=False):
            return True
        if not blocking:
            return False
        own = threading.get_ident()
        with self._books:
            self._since[own] = time.monotonic()
        try:
            return self._lock.acquire(timeout=timeout)
        finally:
            with self._books:
                del self._since[own]

    def release(self) -> None:
        """As ``threading.Lock.release``; charges the caller where others waited."""
        if self._since:
            self._charge()
        self._lock.release()

    def locked(self) -> bool:
        """As ``threading.Lock.locked``."""
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _charge(self) -> None:
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        stack = frames(sites_of(frame, DEEPEST))
        now = time.monotonic()
        with self._books:
            if not self._since:
                return
            # All of them waited for this holder; the next one is charged from now on.
            delay = int(sum(now - since for since in self._since.values()) * 1e9)
            count, self._since = len(self._since), dict.fromkeys(self._since, now)
            if len(self._waited) >= MOST_STACKS and stack not in self._waited:
                stack = stack[-1:]
            sums = self._waited.setdefault(stack, [0, 0])
            sums[0] += count
            sums[1] += delay

    def waited(self) -> dict[Stack, tuple[int, int]]:
        """Waits and nanoseconds by the holder's place, since the lock was made."""
        with self._books:
            return {stack: (count, delay) for stack, (count, delay) in self._waited.items()}


def take() -> Profile:
    """All profiled locks, since they were made."""
    types = (ValueType("contentions", "count"), ValueType("delay", "nanoseconds"))
    profile = Profile(types, period_type=types[0], period=1, default_type="delay")
    for lock in list(_locks):
        for stack, values in lock.waited().items():
            profile.add(stack, values, labels(lock=lock.name))
    if not len(_locks):
        profile.comments.append(
            "no lock keeps accounts: make those that you suspect with "
            "threadkit.profiling.locks.ProfiledLock(name)"
        )
    return profile
