"""The capacity budget: may all workers have all the connections that they may open?

Every worker has a pool to read and one to write, and a reload has twice as many workers for a
while. What the server allows can only be asked once there is a database to ask, so this is no
fault of the start: one worker asks in the background, and says it as a warning and two metrics.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from threadkit import peers
from threadkit.database import Database
from threadkit.database.capacity import connections_allowed, is_limited
from threadkit.observability import metrics
from threadkit.settings import Settings

log = structlog.get_logger("threadkit.server")

_AGAIN: Final = 5.0
"""Seconds until a database that was away is asked again."""


def needed(workers: int, pool: int) -> int:
    """Connections that a reload may open: workers, twice, with a pool to read and one to write."""
    return workers * (pool + pool) * 2


def warning(workers: int, pool: int, allowed: int) -> str | None:
    """Why that is too many, or None where it is not."""
    most = needed(workers, pool)
    if most <= allowed:
        return None
    return (
        f"a reload may open {most} connections ({workers} workers x ({pool} + {pool}) x 2) and the "
        f"database allows {allowed}: lower WORKERS or DATABASE_POOL_SIZE, raise the server's "
        "max_connections, or put a pooler in between"
    )


class Capacity:
    """A ``Resource``: asks once, in one worker of the service, on a thread that then ends."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        folder: Callable[[], Path | None] = peers.folder,
        again: float = _AGAIN,
    ) -> None:
        self._pool = settings.database_pool_size
        self._database = database
        self._find_folder = folder
        self._again = again
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Nothing yet: how many workers there are is said by ``check``."""
        self._stop.clear()

    def abandon(self) -> None:
        """Forget the parent's thread."""
        self._thread, self._stop = None, threading.Event()

    def close(self) -> None:
        """Stop asking and join the thread."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join()

    def check(self, workers: int) -> None:
        """Compare, in the background; the first worker of a configuration does it for all."""
        if not is_limited(self._database) or not self._is_first(workers):
            return
        self._thread = threading.Thread(
            # daemon is the net for a process that ends without closing; close() joins.
            target=self._ask,
            args=(workers,),
            name="capacity",
            daemon=True,
        )
        self._thread.start()

    def _is_first(self, workers: int) -> bool:
        folder = self._find_folder()
        if folder is None:
            return True
        try:
            # Another number of workers or connections, after a reload, is another question.
            (folder / f"{workers}-{self._pool}.capacity").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _ask(self, workers: int) -> None:
        while (allowed := connections_allowed(self._database)) is None:
            self._database.fault()  # tells the log why
            if self._stop.wait(self._again):
                return
        metrics.CONNECTIONS_NEEDED.set(needed(workers, self._pool))
        metrics.CONNECTIONS_ALLOWED.set(allowed)
        if (too_many := warning(workers, self._pool, allowed)) is not None:
            log.warning(too_many)
