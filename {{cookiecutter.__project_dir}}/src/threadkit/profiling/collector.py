"""Keeps the garbage collector from running while other threads' frames are looked at.

Up to Python 3.11 a collection may begin within any allocation, so also in the one that makes a
frame's object. What it finalizes may let go of the interpreter lock; the other thread then
returns from that very frame, and the object points to freed memory: a worker that crashed, or
a stack with somebody's ``mmap`` in it, once in some thousand looks at a loaded service. From
3.12 on collections wait for the next instruction, and there is nothing to do.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NEEDED: Final = sys.version_info < (3, 12)


class Collector:
    """Counts who wants it to rest. Thread-safe; what was in force before comes back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resting = 0  # guarded by _lock
        self._enabled = False  # guarded by _lock; as it was before the first

    @contextmanager
    def rests(self) -> Iterator[None]:
        """For a block; a short one, as nothing is collected in any thread."""
        if not NEEDED:
            yield
            return
        with self._lock:
            if self._resting == 0:
                self._enabled = gc.isenabled()
                gc.disable()
            self._resting += 1
        try:
            yield
        finally:
            with self._lock:
                self._resting -= 1
                if self._resting == 0 and self._enabled:
                    gc.enable()


COLLECTOR: Final = Collector()
"""The one of this process."""
