"""How long a thread may hold the interpreter lock while others want it, shared by all who ask.

    with SWITCHING.at_most(100e-6):      # seconds; the shortest that anybody asks for is in force
        ...
        with SWITCHING.at_most(None):    # this thread is going to wait: what it asked for rests
            ...

What was in force before the first comes back after the last, whoever ends when.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class Switching:
    """The switch interval of this process. Thread-safe; knows only of changes made by itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usual = 0.0  # guarded by _lock; of use while _asked is not empty
        self._asked: dict[int, float] = {}  # by thread; guarded by _lock

    def __repr__(self) -> str:
        return f"<Switching {len(self._asked)} threads ask, {sys.getswitchinterval():g} s>"

    @contextmanager
    def at_most(self, seconds: float | None) -> Iterator[None]:
        """For a block, whatever this thread asked for before; None asks for nothing."""
        before = self._ask(seconds)
        try:
            yield
        finally:
            self._ask(before)

    def usually(self, seconds: float) -> None:
        """From now on, wherever nobody asks for a shorter one."""
        with self._lock:
            self._usual = seconds
            sys.setswitchinterval(min([seconds, *self._asked.values()]))

    def _ask(self, seconds: float | None) -> float | None:
        own = threading.get_ident()
        with self._lock:
            if not self._asked:
                self._usual = sys.getswitchinterval()
            before = self._asked.pop(own, None)
            if seconds is not None:
                self._asked[own] = seconds
            sys.setswitchinterval(min([self._usual, *self._asked.values()]))
            return before


SWITCHING: Final = Switching()
"""The one of this process."""
