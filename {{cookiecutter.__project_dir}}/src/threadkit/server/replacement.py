"""A worker that is worn out (``max_requests``) serves until another one has come for it.

gunicorn starts a new worker only when the old one has left. Here the master is asked for one
more, and this one leaves, in order, once that one has said that it has loaded the application.
How long that takes does not matter: where the new one cannot start at all, this one goes on.
"""

from __future__ import annotations

import time
from typing import Any, Final

import structlog

from threadkit.server import presence, retirement

log = structlog.get_logger("threadkit.server")

_LOOK: Final = 0.1
"""Seconds between two looks at who has come: the main loop may turn a thousand times in one."""
_PATIENCE: Final = 30.0
"""Seconds until the master is asked once more. Two signals that arrive together can be one."""


class Replacement:
    """For one worker; the main thread's."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._known: set[int] | None = None
        """Who had loaded the application when one more was asked for."""
        self._next = 0.0
        self._again = 0.0
        self._over = False

    def turn(self, *, wanted: bool) -> None:
        """Take the next step, if it is time for one."""
        if not wanted or self._over or (now := time.monotonic()) < self._next:
            return
        self._next = now + _LOOK
        if self._known is None:
            self._known = presence.loaded()
            self._ask(now)
        elif presence.take_newcomer(self._known):
            self._over = True
            presence.succeed(self._worker.pid)
            retirement.leave(self._worker)
        elif now >= self._again:
            log.warning("no other worker has come for this one, which goes on")
            self._ask(now)

    def _ask(self, now: float) -> None:
        self._again = now + _PATIENCE
        retirement.ask_for_successor(self._worker)
