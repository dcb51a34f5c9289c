"""Every profile that there is, by its name: the table behind ``/debug/pprof/``.

profile = KINDS["goroutine"].take(Target(runtime.requests), Window(seconds=0))
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from threadkit.profiling import dump
from threadkit.profiling.profile import Profile
from threadkit.profiling.threads import Request, snapshot
from threadkit.profiling.window import Window


@dataclass(frozen=True)
class Target:
    """What is looked at: this process, and the requests that it serves."""

    requests: Collection[Request] = ()


Take = Callable[[Target, Window], Profile]


@dataclass(frozen=True)
class Kind:
    """One profile.

    ``seconds`` is how long it looks where nobody says; 0 is at once, and ``seconds`` in the
    query then asks for the difference between two looks. ``exclusive`` ones refuse to run
    beside another. ``text`` is its own form for ``debug=N``; None groups its stacks.
    """

    description: str
    take: Take
    seconds: float = 0
    exclusive: bool = False
    text: Callable[[Target, Window, int], str] | None = None


def _goroutine(target: Target, window: Window) -> Profile:
    own = (threading.get_ident(),)
    return dump.goroutine(snapshot(target.requests, deepest=window.depth, leave_out=own))


def _goroutine_text(target: Target, window: Window, debug: int) -> str:
    own = (threading.get_ident(),)
    threads = snapshot(target.requests, deepest=window.depth, leave_out=own)
    return dump.each(threads) if debug >= 2 else dump.grouped("goroutine", dump.goroutine(threads))


def _threadcreate(target: Target, window: Window) -> Profile:
    return dump.threadcreate(snapshot(deepest=window.depth))


KINDS: Final[Mapping[str, Kind]] = {
    "goroutine": Kind(
        "Stack traces of all current threads, with what each waits for and which request it "
        "serves. debug=2 lists them in the form of a Go crash.",
        _goroutine,
        text=_goroutine_text,
    ),
    "threadcreate": Kind(
        "Threads by the function that they were started with.",
        _threadcreate,
    ),
}
