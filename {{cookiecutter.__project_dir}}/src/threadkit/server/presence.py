"""Which workers have loaded the application: a mark for each in the folder that they share.

A worker that cannot start looks here whether others serve, and the master, at a reload, whether
the new ones do. Without a shared folder nobody is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from threadkit import peers

_SUFFIX: Final = ".loaded"


def announce(pid: int) -> None:
    """In a worker: the application is loaded."""
    if (mark := _mark(pid)) is not None:
        mark.touch()


def forget(pid: int) -> None:
    """In the master: that worker has gone."""
    if (mark := _mark(pid)) is not None:
        mark.unlink(missing_ok=True)


def all_loaded(pids: Iterable[int]) -> bool:
    """Whether each of these workers has loaded the application."""
    return all((mark := _mark(pid)) is not None and mark.exists() for pid in pids)


def others_serve(own: int) -> bool:
    """Whether any other worker has loaded the application and is still there."""
    folder = peers.folder()
    if folder is None:
        return False
    pids = [int(path.stem) for path in folder.glob(f"*{_SUFFIX}")]
    return any(pid != own and _exists(pid) for pid in pids)


def _mark(pid: int) -> Path | None:
    folder = peers.folder()
    return None if folder is None else folder / f"{pid}{_SUFFIX}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
