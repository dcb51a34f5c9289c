"""Which workers have loaded the application: a mark for each in the folder that they share.

A worker that cannot start looks here whether others serve, one that is worn out whether another
one has come, and the master, at a reload, whether the new ones do. A second mark tells a worker
that it is stopped because others serve in its place. Without a shared folder nobody is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from threadkit import peers

_SUFFIX: Final = ".loaded"
_TAKEN: Final = ".taken"
_SUCCEEDED: Final = ".succeeded"


def announce(pid: int) -> None:
    """In a worker: the application is loaded."""
    if (mark := _mark(pid)) is not None:
        mark.touch()


def forget(pid: int) -> None:
    """In the master: that worker has gone."""
    if (mark := _mark(pid)) is not None:
        mark.unlink(missing_ok=True)
        for suffix in (_TAKEN, _SUCCEEDED):
            mark.with_suffix(suffix).unlink(missing_ok=True)


def succeed(pid: int) -> None:
    """Before that worker is stopped: others have come for it, and the service goes on."""
    if (mark := _mark(pid)) is not None:
        mark.with_suffix(_SUCCEEDED).touch()


def is_succeeded(pid: int) -> bool:
    """In a worker that stops: whether the service goes on without it."""
    return (mark := _mark(pid)) is not None and mark.with_suffix(_SUCCEEDED).exists()


def all_loaded(pids: Iterable[int]) -> bool:
    """Whether each of these workers has loaded the application."""
    return all((mark := _mark(pid)) is not None and mark.exists() for pid in pids)


def loaded() -> set[int]:
    """Those that have loaded the application; some may have gone since."""
    folder = peers.folder()
    return set() if folder is None else {int(path.stem) for path in folder.glob(f"*{_SUFFIX}")}


def take_newcomer(known: set[int]) -> bool:
    """In a worker that is to leave: whether one has come for it that is not among ``known``.

    Two that leave together do not count on the same one.
    """
    for pid in loaded() - known:
        mark = _mark(pid)
        if mark is None or not _exists(pid):
            continue
        try:
            mark.with_suffix(_TAKEN).touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def others_serve(own: int) -> bool:
    """Whether any other worker has loaded the application and is still there."""
    return any(pid != own and _exists(pid) for pid in loaded())


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
