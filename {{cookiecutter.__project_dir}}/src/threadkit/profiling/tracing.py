"""A trace of what the threads did: Chrome trace events, for Perfetto or speedscope.

It is not Go's execution trace, whose format is tied to Go's scheduler. Each thread is a row;
its stack is sampled, and a frame that is there at consecutive looks is one bar.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from typing import Any, Final

from threadkit.profiling.profile import Frame
from threadkit.profiling.threads import Request, Thread
from threadkit.profiling.waiting import looks
from threadkit.profiling.window import Window

MOST_EVENTS: Final = 100_000
DEEPEST: Final = 40
"""Frames from the outermost that get a bar."""

_Open = tuple[str, float, dict[str, Any]]


class _Row:
    """The bars of one thread that are open, outermost first."""

    def __init__(self, thread: Thread) -> None:
        self.number = thread.native_id or thread.ident
        self.name = thread.name
        self.open: list[_Open] = []

    def move(self, bars: list[tuple[str, dict[str, Any]]], now: float) -> list[dict[str, Any]]:
        """Close what is over, open what is new; the events of what was closed."""
        same = 0
        while same < min(len(bars), len(self.open)) and bars[same][0] == self.open[same][0]:
            same += 1
        closed = [self._event(each, now) for each in self.open[same:]]
        self.open[same:] = [(name, now, about) for name, about in bars[same:]]
        return closed

    def _event(self, bar: _Open, now: float) -> dict[str, Any]:
        name, began, about = bar
        place = {"pid": os.getpid(), "tid": self.number, "args": about}
        ts, dur = round(began * 1e6, 1), round((now - began) * 1e6, 1)
        return {"name": name, "ph": "X", "ts": ts, "dur": dur, "cat": "python", **place}


def events(window: Window, requests: Collection[Request]) -> list[dict[str, Any]]:
    """The events of the window, and the names of the rows."""
    rows: dict[int, _Row] = {}
    done: list[dict[str, Any]] = []
    for _, threads in looks(window, requests):
        now = time.time()
        seen = set()
        for thread in threads:
            row = rows.setdefault(thread.ident, _Row(thread))
            seen.add(thread.ident)
            done += row.move(_bars(thread), now)
        for ident in rows.keys() - seen:
            done += rows[ident].move([], now)
        if len(done) > MOST_EVENTS:
            break
    now = time.time()
    for row in rows.values():
        done += row.move([], now)
    done = done[:MOST_EVENTS]
    done.sort(key=lambda event: (event["ts"], -event["dur"]))
    pid = os.getpid()
    names = [
        {"name": "thread_name", "ph": "M", "pid": pid, "tid": r.number, "args": {"name": r.name}}
        for r in rows.values()
    ]
    about = {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": str(pid)}}
    return [about, *names, *done]


def _bars(thread: Thread) -> list[tuple[str, dict[str, Any]]]:
    bars: list[tuple[str, dict[str, Any]]] = []
    if (request := thread.request) is not None:
        route = f"{request.method} {request.route or '(no route)'}"
        bars.append((f"{route} {request.id}", {"request_id": request.id}))
    bars += [(frame.name, _where(frame)) for frame in reversed(thread.stack[-DEEPEST:])]
    bars.append((f"[{thread.wait.kind}]", {"call": thread.wait.call}))
    return bars


def _where(frame: Frame) -> dict[str, Any]:
    return {"file": frame.file, "line": frame.line}


def document(events: list[dict[str, Any]], comments: Collection[str] = ()) -> bytes:
    """The file, as Perfetto, Chrome and speedscope open it."""
    said = {"format": "Chrome trace events, not Go's execution trace", "comments": list(comments)}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": said}).encode()
