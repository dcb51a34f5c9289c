"""Objects that are dear to build, used again.

Go's counterpart is `sync.Pool`.

    compressors = ObjectPool(zstandard.ZstdCompressor, max_idle=8)

    with compressors.borrow() as compressor:
        body = compressor.compress(data)

In CPython this seldom pays: allocation is cheap and there is no collector to relieve. Reuse wins
for what takes 10 µs or more to build (a compressor, a parser, a template environment) and loses
for byte buffers and small objects. Measure before you pool. For connections use a real pool with
health checks and deadlines.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from .registry import register

T = TypeVar("T")

_logger = logging.getLogger(__name__)
_numbers = itertools.count(1)


class ObjectPool(Generic[T]):
    """Keeps at most `max_idle` objects for reuse; builds one whenever none is idle.

    `borrow` is the only way in, so that nothing is returned twice. `reset(object)` runs on every
    return, also after a block that failed; an object whose reset raises is dropped and the error
    logged. `factory` and `reset` run in the borrowing thread, never under the lock.

    Thread-safe. It never waits and does not bound how many are lent: put a `Bulkhead` around it
    for that. In a forked child the pool starts empty, as an object may hold what belongs to the
    parent.
    """

    def __init__(
        self,
        factory: Callable[[], T],
        reset: Callable[[T], object] | None = None,
        max_idle: int = 8,
        *,
        name: str | None = None,
    ) -> None:
        if max_idle < 0:
            raise ValueError(f"max_idle={max_idle} must be zero or more")
        self.name = name or f"pool-{next(_numbers)}"
        self.max_idle = max_idle
        self._factory = factory
        self._reset = reset
        self._start_afresh()
        register("pool", self)

    def _start_afresh(self) -> None:
        # _lock guards every field below it.
        self._lock = threading.Lock()
        self._idle: deque[T] = deque()
        self._lent = self._built = self._reused = self._dropped = 0

    def _after_fork(self) -> None:
        self._start_afresh()

    @contextmanager
    def borrow(self) -> Iterator[T]:
        """Lend one object for a block; do not keep it afterwards."""
        item = self._take()
        try:
            yield item
        finally:
            self._give_back(item)

    def _take(self) -> T:
        with self._lock:
            if self._idle:
                # The one used last: its memory is the warmest, and the others may be trimmed.
                item = self._idle.pop()
                self._reused += 1
                self._lent += 1
                return item
        item = self._factory()
        with self._lock:
            self._built += 1
            self._lent += 1
        return item

    def _give_back(self, item: T) -> None:
        clean = False
        try:
            if self._reset is not None:
                self._reset(item)
            clean = True
        except Exception:
            _logger.exception("pool %s dropped an object that could not be reset", self.name)
        finally:
            with self._lock:
                self._lent = max(0, self._lent - 1)  # below zero only for a block across a fork
                if clean and len(self._idle) < self.max_idle:
                    self._idle.append(item)
                else:
                    self._dropped += 1

    def clear(self) -> None:
        """Drop the idle objects."""
        with self._lock:
            idle, self._idle = self._idle, deque()
            self._dropped += len(idle)
        idle.clear()  # outside the lock: the objects' finalizers run here

    def stats(self) -> dict[str, float]:
        """`idle` and `lent` now; `built`, `reused` and `dropped` in all."""
        with self._lock:
            return {
                "idle": len(self._idle),
                "lent": self._lent,
                "max_idle": self.max_idle,
                "built": self._built,
                "reused": self._reused,
                "dropped": self._dropped,
            }

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<ObjectPool {self.name!r} {stats['idle']}/{self.max_idle} idle, "
            f"{stats['lent']} lent, {stats['built']} built>"
        )
