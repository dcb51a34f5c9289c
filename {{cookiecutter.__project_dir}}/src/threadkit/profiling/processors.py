"""How long this process's threads wait for a processor: what a stop of all of them would take.

    before = turns()
    ...
    seconds = stop_takes(before, turns())

A sleeping thread can only be stopped once it has had a processor to stop on, and a debugger
stops one thread after another. On a quiet machine that takes microseconds. On a busy one it
takes as long as a request works, and what had the GIL meanwhile has gone on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Turn(NamedTuple):
    """Of one thread, since it began: what it waited for processors, and how often it had one."""

    waited_ns: int
    had: int


def turns() -> Mapping[str, Turn]:
    """By thread; empty where the kernel does not say."""
    found = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            _, waited, count = map(int, path.read_text().split())
        except (OSError, ValueError):  # it has ended
            continue
        found[path.parent.name] = Turn(waited, count)
    return found


def stop_takes(before: Mapping[str, Turn], after: Mapping[str, Turn]) -> float:
    """Seconds that it took to stop every thread in between, one after another."""
    start = Turn(0, 0)
    waited = sum(turn.waited_ns - before.get(name, start).waited_ns for name, turn in after.items())
    count = sum(turn.had - before.get(name, start).had for name, turn in after.items())
    return len(after) * waited / count / 1e9 if count else 0.0
