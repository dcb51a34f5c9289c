"""``/debug/vars``: every number of a worker as JSON. Go's counterpart is ``expvar``.

It asks nothing that could wait: readiness is what the last probe heard, and locks are those that
guard a few counters. So it answers while every request thread is stuck and the database is away.

    {"pid": 4711, "cmdline": […], "uptime_seconds": …, "readiness": {…}, "requests": {…},
     "slow": […], "process": {…}, "threads": {…}, "stats": {"database": {…}, "pulse": {…}, …},
     "findings": [{"severity": "error", "where": "admission", "text": "…"}, …]}

What is in ``stats`` is each room's own. Names stay, new ones come.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

import orjson
from werkzeug.wrappers import Request, Response

from threadkit.admin import process
from threadkit.admin.findings import findings
from threadkit.runtime import RequestRecord, Runtime

_MOST_REQUESTS: Final = 256
_STARTED: Final = time.time()


def debug_vars(request: Request, runtime: Runtime, /) -> Response:
    """Every number of this worker as JSON."""
    return Response(orjson.dumps(document(runtime)), mimetype="application/json")


def document(runtime: Runtime) -> dict[str, Any]:
    """Everything that this worker knows of itself."""
    made = {
        "pid": os.getpid(),
        "cmdline": cmdline(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "now": round(time.time(), 3),
        "uptime_seconds": round(time.time() - _STARTED, 3),
        "readiness": _readiness(runtime),
        "requests": _requests(runtime),
        "slow": runtime.ledger.slow(),
        "process": process.facts(),
        "threads": _threads(),
        "stats": runtime.stats(),
    }
    return {**made, "findings": findings(made)}


def cmdline() -> list[str]:
    """The command that started the service, without what looks like a secret."""
    redacted = []
    hide_next = False
    for argument in sys.orig_argv:
        if hide_next:
            redacted.append("…")
            hide_next = False
            continue
        masked = re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:…@", argument)
        name, equals, _ = masked.partition("=")
        secret = _SECRET.search(name) is not None
        redacted.append(f"{name}=…" if secret and equals else masked)
        hide_next = secret and not equals and argument.startswith("-")
    return redacted


_SECRET: Final = re.compile(r"token|secret|passw|key|credential", re.IGNORECASE)


def _readiness(runtime: Runtime) -> dict[str, Any]:
    readiness, age = runtime.last_readiness()
    return {
        "ready": readiness.ready if age is not None or not readiness.ready else None,
        "failures": dict(readiness.failures),
        "asked_seconds_ago": None if age is None else round(age, 3),
    }


def _requests(runtime: Runtime) -> dict[str, Any]:
    records = sorted(runtime.requests, key=lambda record: record.started)
    frames = sys._current_frames()
    return {
        "in_flight": len(records),
        "list": [_request(record, frames) for record in records[:_MOST_REQUESTS]],
        "answered": runtime.ledger.answered(),
        "concurrency": runtime.settings.concurrency,
        "queue_size": runtime.settings.queue_size,
    }


def _request(record: RequestRecord, frames: dict[int, FrameType]) -> dict[str, Any]:
    scope, span = record.scope, record.timeline.open_span()
    remaining = scope.remaining() if scope is not None else None
    deadline = scope.deadline if scope is not None else None
    return {
        "id": record.id,
        "number": record.number,
        "method": record.method,
        "path": record.path,
        "route": record.route,
        "age_seconds": round(record.age, 6),
        "limit_seconds": None if record.limit is None else round(record.limit, 6),
        # Below zero: so much over its time limit, and still there.
        "left_seconds": None if deadline is None else round(deadline - time.monotonic(), 6),
        "cancelled": remaining == 0.0,
        "doing": None if span is None else span.document(record.timeline.started),
        "at": _place(frames.get(record.thread_id)),
        "thread_id": record.thread_id,
        "spans": record.timeline.document()[-16:],
    }


def _place(frame: FrameType | None) -> str | None:
    """Where a thread is: the innermost line that is not the library's or the kit's own."""
    innermost = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_FOREIGN):
            break
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return None
    file = "/".join(frame.f_code.co_filename.split("/")[-2:])
    return f"{file}:{frame.f_lineno} {frame.f_code.co_qualname}"


_FOREIGN: Final = (
    "<",  # <frozen importlib>, <string>
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
)


def _threads() -> dict[str, Any]:
    """How many threads there are by the beginning of their name, and in all."""
    kinds = Counter(_NUMBER.sub("", thread.name) for thread in threading.enumerate())
    return {"count": sum(kinds.values()), "by_name": dict(sorted(kinds.items()))}


_NUMBER: Final = re.compile(r"[-_ ]?\d[-_\d]*")
