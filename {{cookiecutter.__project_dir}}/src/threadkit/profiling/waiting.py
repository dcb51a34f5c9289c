"""Where threads are, working or not (``wall``), and where they wait for what (``block``).

Both look at every thread at regular intervals. A thread that waits does not mind being looked
at late, so unlike CPU time this can be sampled from inside the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from typing import Final

from threadkit.profiling.classify import IDLE, RUNNING
from threadkit.profiling.profile import Profile, Stack, ValueType
from threadkit.profiling.threads import Request, Thread, sample_labels, snapshot
from threadkit.profiling.window import Window

NOT_BLOCKED: Final = frozenset({RUNNING, IDLE, "sleep", "signal", "file"})
"""Neither work nor a nap counts as blocking, nor a pool's thread that has nothing to do."""


def looks(window: Window, requests: Collection[Request]) -> Iterator[tuple[float, list[Thread]]]:
    """Every thread but the caller's at each tick, and the seconds since the tick before."""
    own = (threading.get_ident(),)
    last = due = time.monotonic()
    end = due + window.seconds
    while due < end:
        due = max(due + 1 / window.hz, time.monotonic())
        window.wait(due - time.monotonic())
        threads = snapshot(requests, deepest=window.depth, leave_out=own)
        now = time.monotonic()
        yield now - last, threads
        last = now


def wall(window: Window, requests: Collection[Request]) -> Profile:
    """Time of every thread, whatever it does; the label ``state`` says what."""
    kind = ValueType("wall", "nanoseconds")
    profile = _profile((ValueType("samples", "count"), kind), window)
    for passed, threads in looks(window, requests):
        for thread in threads:
            profile.add(thread.stack, (1, int(passed * 1e9)), _labels(thread))
    return profile


def block(window: Window, requests: Collection[Request]) -> Profile:
    """Time in which threads wait for a lock, queue, condition, socket, database, pool, …

    A contention is a wait that was not there at the look before, so short ones are counted
    as often as they are met, and their time is right on average.
    """
    types = (ValueType("contentions", "count"), ValueType("delay", "nanoseconds"))
    profile = _profile(types, window)
    profile.period_type, profile.period = types[0], 1  # as Go's: stores name a profile by it
    before: dict[int, Stack] = {}
    for passed, threads in looks(window, requests):
        now: dict[int, Stack] = {}
        for thread in threads:
            if thread.wait.kind in NOT_BLOCKED:
                continue
            now[thread.ident] = thread.stack
            began = before.get(thread.ident) != thread.stack
            profile.add(thread.stack, (int(began), int(passed * 1e9)), _labels(thread))
        before = now
    return profile


def _profile(types: tuple[ValueType, ValueType], window: Window) -> Profile:
    return Profile(
        types,
        period_type=types[1],
        period=1_000_000_000 // window.hz,
        default_type=types[1].type,
        duration_ns=int(window.seconds * 1e9),
        comments=[f"sampled {window.hz} times a second"],
    )


def _labels(thread: Thread) -> tuple[tuple[str, str | int], ...]:
    return sample_labels(thread.name, thread.request, thread.wait.kind)
