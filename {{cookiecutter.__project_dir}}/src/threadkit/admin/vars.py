"""``/debug/vars``: every number of a worker as JSON. Go's counterpart is ``expvar``.

It asks nothing that could wait: readiness is what the last probe heard, and locks are those that
guard a few counters. So it answers while every request thread is stuck and the database is away.

    {"pid": 4711, "cmdline": […], "uptime_seconds": …, "readiness": {…}, "requests": {…},
     "slow": […], "process": {…}, "threads": {…}, "stats": {"database": {…}, "pulse": {…}, …},
     "findings": [{"severity": "error", "about": "bulkhead admission", "text": "…"}, …]}

What is in ``stats`` is each room's own. Names stay, new ones come.
"""

from __future__ import annotations

import os
import platform
import re
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from werkzeug.wrappers import Request, Response

from threadkit.admin import process
from threadkit.admin.app import problem
from threadkit.admin.findings import findings
from threadkit.admin.neighbours import Neighbours
from threadkit.profiling.classify import Site, classify, stacks
from threadkit.profiling.cmdline import redacted
from threadkit.profiling.profile import DEEPEST
from threadkit.profiling.threads import Unsupported, refuse_without_gil
from threadkit.runtime import RequestRecord, Runtime

PATIENCE: Final = 0.15
"""Seconds that another worker has to answer; one that takes longer is named, not waited for."""

_MOST_REQUESTS: Final = 256
_STARTED: Final = time.time()


def debug_vars(request: Request, runtime: Runtime, /) -> Response:
    """Every number as JSON; of this worker, of ``?pid=N`` or of ``?pid=all``."""
    asked = request.args.get("pid", str(os.getpid()))
    if asked == "all":
        return _json(orjson.dumps(_everyone(runtime)))
    if asked == str(os.getpid()):
        return _json(orjson.dumps(document(runtime)))
    neighbours = Neighbours(runtime)
    pids = [pid for pid in neighbours.pids() if str(pid) == asked]
    if not pids:
        return problem(404, f"There is no worker {asked}.")
    answer = neighbours.ask(pids[0], "/debug/vars", seconds=PATIENCE)
    if answer.fault is not None:
        return problem(503, f"Worker {asked} does not tell its numbers: {answer.fault}.")
    return _json(answer.body)


def _everyone(runtime: Runtime) -> dict[str, Any]:
    own = document(runtime)
    workers, missing = [own], {}
    for answer in Neighbours(runtime).ask_all("/debug/vars", seconds=PATIENCE):
        if answer.fault is not None or answer.status != 200:
            missing[answer.pid] = answer.fault or f"it answered {answer.status}"
        else:
            workers.append(orjson.loads(answer.body))
    return {
        "service": own["service"],
        "now": own["now"],
        "answered_by": own["pid"],
        "workers": sorted(workers, key=lambda worker: worker["pid"]),
        "missing": [{"pid": pid, "reason": why} for pid, why in sorted(missing.items())],
    }


def _json(body: bytes) -> Response:
    return Response(body, mimetype="application/json")


def document(runtime: Runtime) -> dict[str, Any]:
    """Everything that this worker knows of itself."""
    threads = _stacks()
    made = {
        "service": runtime.service,
        "pid": os.getpid(),
        "cmdline": redacted(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "now": round(time.time(), 3),
        "uptime_seconds": round(time.time() - _STARTED, 3),
        "readiness": _readiness(runtime),
        "requests": _requests(runtime, threads),
        "slow": runtime.ledger.slow(),
        "process": process.facts(),
        "threads": _threads(threads),
        "stats": runtime.stats(),
    }
    return {**made, "findings": findings(made)}


def _readiness(runtime: Runtime) -> dict[str, Any]:
    readiness, age = runtime.last_readiness()
    return {
        "ready": readiness.ready if age is not None or not readiness.ready else None,
        "failures": dict(readiness.failures),
        "asked_seconds_ago": None if age is None else round(age, 3),
    }


def _stacks() -> dict[int, list[Site]]:
    try:
        refuse_without_gil()
    except Unsupported:
        return {}
    return stacks(DEEPEST)


def _requests(runtime: Runtime, threads: Mapping[int, list[Site]]) -> dict[str, Any]:
    records = sorted(runtime.requests, key=lambda record: record.started)
    return {
        "in_flight": len(records),
        "list": [_request(record, threads) for record in records[:_MOST_REQUESTS]],
        "answered": runtime.ledger.answered(),
        "concurrency": runtime.settings.concurrency,
        "queue_size": runtime.settings.queue_size,
    }


def _request(record: RequestRecord, threads: Mapping[int, list[Site]]) -> dict[str, Any]:
    sites = threads.get(record.thread_id)
    wait = classify(sites or ())
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
        "waited_seconds": round(record.waited, 6),
        "limit_seconds": None if record.limit is None else round(record.limit, 6),
        # Below zero: so much over its time limit, and still there.
        "left_seconds": None if deadline is None else round(deadline - time.monotonic(), 6),
        "cancelled": remaining == 0.0,
        "doing": None if span is None else span.document(record.timeline.started),
        "state": wait.kind if sites is not None else None,
        "calls": wait.call,
        "at": _place(sites or ()),
        "thread_id": record.thread_id,
        "spans": record.timeline.document()[-16:],
    }


def _place(sites: Iterable[Site]) -> str | None:
    """Where a thread is: the innermost line that is not a library's or the kit's own."""
    for code, _, line in sites:
        if not code.co_filename.startswith(_FOREIGN):
            file = "/".join(code.co_filename.split("/")[-2:])
            return f"{file}:{line} {code.co_qualname}"
    return None


_FOREIGN: Final = (
    "<",  # <frozen importlib>, <string>
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
)


def _threads(threads: Mapping[int, list[Site]]) -> dict[str, Any]:
    """How many threads there are, by the beginning of their name and by what they do."""
    kinds = Counter(_NUMBER.sub("", thread.name) for thread in threading.enumerate())
    states = Counter(classify(sites).kind for sites in threads.values())
    return {
        "count": sum(kinds.values()),
        "by_name": dict(sorted(kinds.items())),
        "by_state": dict(sorted(states.items())),
    }


_NUMBER: Final = re.compile(r"[-_ ]?\d[-_\d]*")
