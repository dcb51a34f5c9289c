"""The threads of this process: what each is called, does, waits for and works on.

Go's counterpart is the goroutine profile. It takes no lock and asks no thread to
cooperate, so it answers when every one of them is stuck.

    for thread in snapshot(requests=runtime.requests):
        print(thread.name, thread.wait.kind, thread.request and thread.request.route)
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from threadkit.profiling.classify import Site, Wait, classify, stacks
from threadkit.profiling.profile import DEEPEST, Frame, Labels, Stack, labels


class Unsupported(Exception):
    """This interpreter cannot do it; the text says why, and what can."""


class Scope(Protocol):
    """What is asked of a request's scope."""

    @property
    def deadline(self) -> float | None: ...


class Request(Protocol):
    """What is asked of a request in flight; ``runtime.RequestRecord`` is one."""

    id: str
    method: str
    path: str
    route: str | None
    thread_id: int
    started: float

    @property
    def scope(self) -> Scope | None: ...


@dataclass(frozen=True, slots=True)
class Working:
    """The request that a thread serves. Times in seconds; ``left`` is None without a limit."""

    id: str
    method: str
    route: str | None
    age: float
    left: float | None


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread at one moment."""

    ident: int
    native_id: int | None
    name: str
    daemon: bool
    stack: Stack
    wait: Wait
    request: Working | None

    @property
    def labels(self) -> Labels:
        """As on a sample of it."""
        return sample_labels(self.name, self.request)


def sample_labels(name: str, request: Working | Request | None, state: str = "") -> Labels:
    """``thread``, and ``endpoint`` and ``method`` where it serves a request with a route."""
    if request is None or request.route is None:
        return labels(thread=name, state=state)
    return labels(thread=name, state=state, endpoint=request.route, method=request.method)


def refuse_without_gil() -> None:
    """Reading another thread's frames while it runs is a use after free without the GIL.

    See python/cpython#118680 and #152355.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        msg = (
            "This interpreter runs without the GIL, where the stacks of other threads cannot be "
            "read safely. Use an external profiler such as py-spy or perf."
        )
        raise Unsupported(msg)


def by_thread(requests: Iterable[Request]) -> dict[int, Request]:
    """Requests by the thread that serves them; the list is copied in one step of the GIL."""
    return {request.thread_id: request for request in list(requests)}


def snapshot(
    requests: Iterable[Request] = (), *, deepest: int = DEEPEST, leave_out: Iterable[int] = ()
) -> list[Thread]:
    """Every thread but those of ``leave_out`` (identifiers), the main thread first."""
    refuse_without_gil()
    known = {thread.ident: thread for thread in threading.enumerate()}
    serving = by_thread(requests)
    now = time.monotonic()
    found = []
    for ident, sites in stacks(deepest).items():
        if ident in leave_out:
            continue
        thread = known.get(ident)
        found.append(
            Thread(
                ident,
                thread.native_id if thread else None,
                thread.name if thread else f"(not Python's) {ident:#x}",
                thread.daemon if thread else True,
                frames(sites),
                classify(sites),
                working(serving.get(ident), now),
            )
        )
    main = threading.main_thread().ident
    return sorted(found, key=lambda t: (t.ident != main, t.native_id or 0))


def frames(sites: Iterable[Site]) -> Stack:
    """Sites as frames of a profile."""
    return tuple(
        Frame(s.code.co_qualname, s.code.co_filename, s.line, s.code.co_firstlineno) for s in sites
    )


def working(request: Request | None, now: float) -> Working | None:
    """What the record of a request says; its thread may be ending it meanwhile."""
    if request is None:
        return None
    scope = request.scope
    end = scope.deadline if scope is not None else None
    left = end - now if end is not None else None
    return Working(request.id, request.method, request.route, now - request.started, left)


def states(threads: Iterable[Thread]) -> Mapping[str, int]:
    """How many do what."""
    counted: dict[str, int] = {}
    for thread in threads:
        counted[thread.wait.kind] = counted.get(thread.wait.kind, 0) + 1
    return counted
