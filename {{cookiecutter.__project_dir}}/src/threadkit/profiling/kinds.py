"""Every profile that there is, by its name: the table behind ``/debug/pprof/``.

profile = KINDS["goroutine"].take(Target(runtime.requests), Window(seconds=0))
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from threadkit.profiling import cpu, dump, heap, locks, waiting
from threadkit.profiling.merge import delta
from threadkit.profiling.profile import DEEPEST, Profile
from threadkit.profiling.threads import Request, Unsupported, snapshot
from threadkit.profiling.views import Views
from threadkit.profiling.window import OneAtATime, Window
from threadkit.runtime import View


@dataclass(frozen=True)
class Target:
    """What is looked at: this process, the requests that it serves, and their handlers."""

    requests: Collection[Request] = ()
    views: Collection[View] = ()


Take = Callable[[Target, Window], Profile]


@dataclass(frozen=True)
class Kind:
    """One profile.

    ``seconds`` is how long it looks where nobody says; 0 is at once, and ``seconds`` in the
    query then asks for the difference between two looks, or where there is a ``during`` for
    what that sees. Whatever takes time refuses to run beside another. ``text`` is its own
    form for ``debug=1``, and ``each`` for more; where there is None its stacks are grouped.
    """

    description: str
    take: Take
    seconds: float = 0
    depth: int = DEEPEST
    during: Take | None = None
    text: Callable[[Target, Window], str] | None = None
    each: Callable[[Target, Window], str] | None = None

    def own_text(self, debug: int) -> Callable[[Target, Window], str] | None:
        """What writes the text of this worker alone; None where the stacks are grouped."""
        return self.each if debug >= 2 and self.each is not None else self.text


def _goroutine(target: Target, window: Window) -> Profile:
    own = (threading.get_ident(),)
    return dump.goroutine(snapshot(target.requests, deepest=window.depth, leave_out=own))


def _each_thread(target: Target, window: Window) -> str:
    own = (threading.get_ident(),)
    return dump.each(snapshot(target.requests, deepest=window.depth, leave_out=own))


def _heap_text(target: Target, window: Window) -> str:
    return dump.grouped("heap", heap.by_type()) + heap.figures()


def _allocs(target: Target, window: Window) -> Profile:
    msg = (
        "CPython keeps no account of past allocations. heap?seconds=5 shows what was allocated "
        "in that time and still lives."
    )
    raise Unsupported(msg)


KINDS: Final[Mapping[str, Kind]] = {
    "allocs": Kind("Past memory allocations: not kept by CPython (501); see heap.", _allocs),
    "block": Kind(
        "Where threads wait for a lock, queue, condition, socket, database or pool; the label "
        "state says which.",
        lambda target, window: waiting.block(window, target.requests),
        seconds=1,
    ),
    "goroutine": Kind(
        "Stack traces of all current threads, with what each waits for and which request it "
        "serves. debug=2 lists them in the form of a Go crash.",
        _goroutine,
        each=_each_thread,
    ),
    "heap": Kind(
        "Live objects by type; with seconds=N what is allocated meanwhile and stays, by place "
        "(slows the worker down, by depth=N even more). debug=1 adds resident memory and the "
        "collector's figures.",
        lambda target, window: heap.by_type(),
        depth=1,
        during=lambda target, window: heap.allocated(window),
        text=_heap_text,
    ),
    "mutex": Kind(
        "Stack traces of holders of contended locks, of those made as ProfiledLock.",
        lambda target, window: locks.take(),
    ),
    "profile": Kind(
        "CPU profile, by py-spy. You can specify the duration in the seconds GET parameter.",
        lambda target, window: cpu.take(window, target.requests, Views(target.views)),
        seconds=30,
    ),
    "threadcreate": Kind(
        "Threads by the function that they were started with.",
        lambda target, window: dump.threadcreate(snapshot(deepest=window.depth)),
    ),
    "wall": Kind(
        "Time of all threads, whether they work or wait; the label state says for what.",
        lambda target, window: waiting.wall(window, target.requests),
        seconds=10,
    ),
}


def take(kind: Kind, target: Target, window: Window, *, asked: bool) -> Profile:
    """One look, the difference of two (``asked`` for seconds), or a window of time."""
    if not kind.seconds and not asked:
        return kind.take(target, window)
    with PLACE.claim():
        if kind.seconds:
            return kind.take(target, window)
        if kind.during is not None:
            return kind.during(target, window)
        before = kind.take(target, window)
        window.wait(window.seconds)
        return delta(before, kind.take(target, window))


PLACE: Final = OneAtATime()
"""One profile that takes time, a process: two would measure each other."""
