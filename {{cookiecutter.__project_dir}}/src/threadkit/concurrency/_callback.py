"""One function registered with `CancelScope.on_cancel`, and its race with being unregistered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_logger = logging.getLogger(__name__)


class Callback:
    """Runs at most once; `unregister` and `run` agree on who was first.

    Thread-safe. Two locks used as one-way gates: whoever takes `_claim` decides, and `_over`
    opens when there is nothing left to wait for. They guard no fields, and the function runs
    under neither in the sense that matters: nobody blocks on `_claim`, and only `unregister`
    blocks on `_over`, which is its purpose.
    """

    __slots__ = ("_claim", "_fn", "_forget", "_over", "_runner")

    def __init__(self, fn: Callable[[], object], forget: Callable[[Callback], object]) -> None:
        self._fn = fn
        self._forget = forget
        self._runner: int | None = None
        self._claim = threading.Lock()
        self._over = threading.Lock()
        self._over.acquire()

    def run(self) -> None:
        """Call the function unless it was unregistered; log what it raises."""
        if not self._claim.acquire(blocking=False):
            return
        self._runner = threading.get_ident()
        try:
            self._fn()
        except Exception:
            _logger.exception("an on_cancel function failed: %r", self._fn)
        finally:
            self._over.release()

    def unregister(self) -> bool:
        """True: the function has not run and never will. False: it ran, to its end.

        When it is running in another thread right now, this waits until it has returned, so that
        after `unregister()` a socket may safely go back to its pool. Called from within the
        function itself it returns False at once. Never call it while you hold a lock that the
        function takes.
        """
        if self._claim.acquire(blocking=False):
            self._forget(self)
            self._over.release()
            return True
        if self._runner != threading.get_ident():
            with self._over:
                pass
        return False
