"""``/debug/``: the live console, and the one thing that it can change: it cancels requests.

Go has no counterpart; ``net/http/pprof`` shows an index here. The page asks ``/debug/vars`` of
all workers once a second and shows what is wrong first. It is static, so it comes at once
whatever the service does.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import quote

import orjson
import structlog
from werkzeug.wrappers import Request, Response

from threadkit.admin import pages
from threadkit.admin.app import problem
from threadkit.admin.neighbours import Neighbours
from threadkit.admin.origin import objection
from threadkit.runtime import CANCELLED_BY_OPERATOR, RequestRecord, Runtime

log = structlog.get_logger("threadkit.admin")

_PATIENCE: Final = 1.0
"""Seconds that another worker has to cancel; more than for numbers, since it matters more."""
_SCRIPTS: Final = ("parts.js", "sections.js", "main.js")


def console(request: Request, runtime: Runtime, /) -> Response:
    """The live console: requests in flight, limits, pools, workers, slow requests."""
    return pages.page("console", *_SCRIPTS).response()


def cancel(request: Request, runtime: Runtime, /, *, id: str) -> Response:  # noqa: A002
    """Cancel the requests in flight that have this id; ``pid`` and ``number`` narrow it down."""
    if (refused := objection(request, runtime.settings)) is not None:
        return problem(403, refused)
    pid = request.args.get("pid", type=int)
    number = request.args.get("number", type=int)
    cancelled = []
    if pid in (None, os.getpid()):
        found = [r for r in list(runtime.requests) if r.id == id and number in (None, r.number)]
        cancelled += [_told(record, _cancel(record)) for record in found]
    if pid != os.getpid():
        cancelled += _cancelled_elsewhere(runtime, id, pid, number)
    if not cancelled:
        return problem(404, "No such request is in flight; it may have ended.")
    return Response(orjson.dumps({"cancelled": cancelled}), mimetype="application/json")


def _cancelled_elsewhere(
    runtime: Runtime, identity: str, pid: int | None, number: int | None
) -> list[dict[str, Any]]:
    """What the other workers, or the one that is meant, say to the same question."""
    neighbours = Neighbours(runtime)
    others = [other for other in neighbours.pids() if pid in (None, other) and other != os.getpid()]
    narrowed = "" if number is None else f"&number={number}"
    cancelled = []
    for other in others:
        target = f"/debug/requests/{quote(identity, safe='')}/cancel?pid={other}{narrowed}"
        answer = neighbours.ask(other, target, seconds=_PATIENCE, method="POST")
        if answer.fault is None and answer.status == 200:
            cancelled += orjson.loads(answer.body)["cancelled"]
    return cancelled


def _told(record: RequestRecord, cancelled: bool) -> dict[str, Any]:
    path = f"{record.method} {record.path}"
    return {"pid": os.getpid(), "number": record.number, "request": path, "by_this": cancelled}


def _cancel(record: RequestRecord) -> bool:
    scope = record.root
    if scope is None or not scope.cancel(CANCELLED_BY_OPERATOR):
        return False
    log.warning(
        "request cancelled by an operator",
        cancelled_request_id=record.id,
        method=record.method,
        path=record.path,
        age=round(record.age, 3),
    )
    return True
