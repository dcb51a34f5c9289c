"""A worker that has to go asks for another one first, and serves until that one does.

gunicorn starts a new worker only when the old one has left. Here the master is asked for one
more (SIGTTIN), and once that one has had the time to start, for one less (SIGTTOU): it then
stops its oldest worker, in order. Where that is another one than who asked, the next turn is
this one's; both signals are gunicorn's documented interface.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

_SHORTEST: Final = 1.0
_LONGEST: Final = 20.0
"""Seconds for a new worker to start, whatever this one needed."""
_AGAIN: Final = 5.0
"""Seconds until it is asked once more, where another worker was stopped instead."""


class Replacement:
    """For one worker; the main thread's. ``booted_in`` is how long it took to start, in seconds."""

    def __init__(self, master: int, booted_in: float) -> None:
        self._master = master
        self._patience = min(max(_SHORTEST, 2 * booted_in), _LONGEST)
        self._one_less_at: float | None = None
        self._next = 0.0

    def turn(self, *, wanted: bool) -> None:
        """Take the next step, if it is time for one. Called about once a second."""
        now = time.monotonic()
        if self._one_less_at is not None:
            if now >= self._one_less_at:
                self._one_less_at = None
                self._next = now + _AGAIN
                self._tell(signal.SIGTTOU)
        elif wanted and now >= self._next:
            self._one_less_at = now + self._patience
            self._tell(signal.SIGTTIN)

    def give_up(self) -> None:
        """This worker leaves anyway: the master has to be back at its number."""
        if self._one_less_at is not None:
            self._one_less_at = None
            self._tell(signal.SIGTTOU)

    def _tell(self, number: signal.Signals) -> None:
        if os.getppid() == self._master:
            os.kill(self._master, number)
