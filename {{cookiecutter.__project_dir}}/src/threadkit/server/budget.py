"""So many times in so many seconds, over all workers of a service.

The workers share a private folder; a file in it holds the moments at which something happened,
and a lock on that file orders those who ask.
"""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path


class Budget:
    """At most ``most`` in ``period`` seconds. Any thread of any worker may ask.

    Without a folder (no master has made one) there are no other workers, and nothing is shared
    or remembered: every call is granted.
    """

    def __init__(self, folder: Path | None, name: str, most: int, period: float) -> None:
        self._path = None if folder is None else folder / f"{name}.budget"
        self._most = most
        self._period = period

    def take(self) -> bool:
        """Whether it may happen now; counted if so. ``time.monotonic()`` is the machine's."""
        if self._path is None:
            return True
        with self._path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            file.seek(0)
            now = time.monotonic()
            moments: list[float] = json.loads(file.read() or "[]")
            recent = [moment for moment in moments if now - self._period < moment <= now]
            if len(recent) >= self._most:
                return False
            file.truncate(0)
            file.write(json.dumps([*recent, now]))
        return True
