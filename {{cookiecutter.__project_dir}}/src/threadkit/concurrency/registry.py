"""What lives in this process: for metrics and consoles, and for the child after a fork.

Go has no counterpart for the first (its runtime keeps such lists itself) and no need of the
second. Objects enter when they are made and leave when they are collected; nothing is kept alive:

    for bulkhead in named("bulkhead"):
        print(bulkhead.name, bulkhead.stats())

After `os.fork()` only the forking thread exists in the child. A lock that another thread held at
that moment would stay locked for ever and a permit it held would never come back, so every
registered object is told to start afresh before the child runs anything else.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Named(Protocol):
    """What a registered object offers to those who list it."""

    @property
    def name(self) -> str: ...

    def stats(self) -> dict[str, float]: ...


class _Forkable(Named, Protocol):
    def _after_fork(self) -> None: ...


# Guards _kinds. Held for a few set operations only; no user code runs under it.
_lock = threading.Lock()
_kinds: dict[str, weakref.WeakSet[_Forkable]] = {}


def register(kind: str, item: _Forkable) -> None:
    """Enter an object under a kind such as "cache"; it is forgotten when it is collected."""
    with _lock:
        _kinds.setdefault(kind, weakref.WeakSet()).add(item)


def named(kind: str) -> list[Named]:
    """The live objects of a kind ("bulkhead", "cache", "executor" …), sorted by name."""
    with _lock:
        members: list[Named] = list(_kinds.get(kind, ()))
    return sorted(members, key=lambda member: member.name)


def kinds() -> list[str]:
    """The kinds that have been registered so far, sorted."""
    with _lock:
        return sorted(_kinds)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for members in list(_kinds.values()):
        for item in list(members):
            item._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
