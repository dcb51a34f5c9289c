"""How a worker has itself replaced without the master's waiting for it to leave.

gunicorn starts a worker only when another has gone, and a worker whose threads are stuck may take
its whole graceful time for that. So the worker asks for one more (SIGTTIN) and stops itself
(SIGTERM): at once where its threads are stuck, else when the other one serves (``replacement``).
When it has gone, for whatever reason, the master goes back to one fewer. A mark in the private
folder that master and workers share tells it that the one which left is such a worker.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from threadkit import peers
from threadkit.server import gunicorn_names


def ask_for_successor(worker: Any) -> None:
    """In a worker: have the master start one more. It has one byte in the mark for each."""
    if (mark := _mark(worker.pid)) is not None:
        with mark.open("ab") as file:
            file.write(b"+")
        os.kill(worker.ppid, signal.SIGTTIN)


def leave(worker: Any) -> None:
    """In a worker: stop in order."""
    os.kill(worker.pid, signal.SIGTERM)


def retire(worker: Any) -> None:
    """In a worker: have the master start another one, and leave without waiting for it."""
    if worker.alive:  # else it is leaving already, and its successor comes by itself
        ask_for_successor(worker)
        leave(worker)


def settle(arbiter: Any, pid: int) -> None:
    """In the master, once worker ``pid`` has gone: what it asked for is not more any longer."""
    mark = _mark(pid)
    if mark is not None and mark.exists():
        asked = mark.stat().st_size
        mark.unlink()
        for _ in range(asked):
            gunicorn_names.one_worker_less(arbiter)


def _mark(pid: int, folder: Callable[[], Path | None] = peers.folder) -> Path | None:
    place = folder()
    return None if place is None else place / f"{pid}.replaced"
