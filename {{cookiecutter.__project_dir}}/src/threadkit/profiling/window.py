"""A stretch of time in which a profile is taken, which its client can end by leaving.

with ONE_AT_A_TIME.claim():
    take(Window(seconds=5, pause=client.left_within))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from threadkit.profiling.profile import DEEPEST
from threadkit.profiling.switching import SWITCHING

LONGEST: Final = 60
"""Seconds of a profile."""
FASTEST: Final = 250
"""Samples a second."""


class Busy(Exception):
    """Another profile is being taken in this process."""


class Abandoned(Exception):
    """Who asked for the profile has left; there is nobody to give it to."""


def _just_wait(seconds: float) -> bool:
    return threading.Event().wait(seconds)


@dataclass(frozen=True)
class Window:
    """How long and how. ``pause(seconds)`` waits, and is true once the client has left."""

    seconds: float
    hz: int = 100
    depth: int = DEEPEST
    pause: Callable[[float], bool] = _just_wait

    def wait(self, seconds: float) -> None:
        """Let the time pass, none too; ``Abandoned`` as soon as the client leaves."""
        until = time.monotonic() + seconds
        while True:
            if self.pause(max(0.0, until - time.monotonic())):
                raise Abandoned
            if time.monotonic() >= until:
                return


class OneAtATime:
    """Refuses instead of queueing: two profiles at once would measure each other."""

    def __init__(self) -> None:
        # Held while a profile runs; never waited for.
        self._lock = threading.Lock()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the place for a block; ``Busy`` at once where another holds it."""
        if not self._lock.acquire(blocking=False):
            msg = "cpu profiling already in use"
            raise Busy(msg)
        try:
            # Whoever answers requests quickly must not do so for all of a minute.
            with SWITCHING.at_most(None):
                yield
        finally:
            self._lock.release()

    @property
    def taken(self) -> bool:
        """Whether a profile is being taken."""
        return self._lock.locked()
