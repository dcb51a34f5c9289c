"""How a worker has itself replaced without the master's waiting for it to leave.

gunicorn starts a worker only when another has gone, and a worker whose threads are stuck may take
its whole graceful time for that. So the worker asks for one more (SIGTTIN) and then stops itself
(SIGTERM); when it has gone, the master goes back to one fewer. A mark in the private folder that
master and workers share tells it that the one which left is such a worker.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from threadkit import peers
from threadkit.server import gunicorn_names


def retire(worker: Any) -> None:
    """In a worker: have the master start another one, and leave in order."""
    if not worker.alive:
        return  # it is leaving already, and its successor comes by itself
    if (mark := _mark(worker.pid)) is not None:
        mark.touch()
        os.kill(worker.ppid, signal.SIGTTIN)
    os.kill(worker.pid, signal.SIGTERM)


def settle(arbiter: Any, pid: int) -> None:
    """In the master, once worker ``pid`` has gone: the one more is not needed any longer."""
    mark = _mark(pid)
    if mark is not None and mark.exists():
        mark.unlink()
        gunicorn_names.one_worker_less(arbiter)


def _mark(pid: int, folder: Callable[[], Path | None] = peers.folder) -> Path | None:
    place = folder()
    return None if place is None else place / f"{pid}.replaced"
