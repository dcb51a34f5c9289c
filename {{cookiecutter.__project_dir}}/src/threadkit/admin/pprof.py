"""``/debug/pprof/``: Go's ``net/http/pprof`` for this service's threads and workers.

Routes, parameters, headers, status codes and texts are Go's, so that ``go tool pprof`` and
continuous profilers need no special case. On top: ``pid=N`` and ``pid=all`` (one worker, or
the sum of all), ``format=html`` (a flame graph) and ``top`` (a page of text), ``hz``, ``depth``.

    go tool pprof -top 'http://127.0.0.1:9000/debug/pprof/profile?seconds=10&pid=all'
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from werkzeug.wrappers import Request, Response

from threadkit.admin import pprof_formats, pprof_query
from threadkit.admin.app import Route
from threadkit.admin.client import left_within
from threadkit.admin.neighbours import Answer, Neighbours
from threadkit.admin.pprof_index import page
from threadkit.admin.pprof_query import EVERY, Query, RefusedError
from threadkit.admin.pprof_service import of_all
from threadkit.profiling import dump, tracing
from threadkit.profiling.cmdline import redacted
from threadkit.profiling.kinds import KINDS, PLACE, Kind, Target, take
from threadkit.profiling.profile import DEEPEST
from threadkit.profiling.threads import Unsupported
from threadkit.profiling.window import Abandoned, Busy, Window
from threadkit.runtime import Runtime


def index(request: Request, runtime: Runtime, /) -> Response:
    """Profiles in Go's format: CPU, waits, heap, locks, threads."""
    return page(KINDS, Neighbours(runtime).pids())


def profile(request: Request, runtime: Runtime, /, *, name: str) -> Response:
    """One profile."""
    kind = KINDS.get(name)
    if kind is None:
        return refusal(404, "Unknown profile")
    return _guarded(name, request, lambda query: _answer(name, kind, query, request, runtime))


def _guarded(name: str, request: Request, answer: Callable[[Query], Response]) -> Response:
    try:
        return answer(pprof_query.read(name, request.values))
    except RefusedError as refused:
        return refusal(refused.status, str(refused))
    except Busy as busy:
        return refusal(500, f"Could not enable {_TITLES.get(name, name)}: {busy}")
    except Unsupported as unsupported:
        return refusal(501, str(unsupported))
    except Abandoned:
        return refusal(500, "context canceled")  # Go's words; nobody reads them


def _trace(query: Query, request: Request, runtime: Runtime) -> Response:
    assert query.seconds is not None
    window = Window(query.seconds, query.hz, DEEPEST, left_within(request))
    neighbours = Neighbours(runtime)
    if isinstance(query.pid, int) and query.pid != os.getpid():
        return _relayed("trace", query, neighbours, query.seconds, window.pause)
    shares = of_all(neighbours, "trace", query, window) if query.pid == EVERY else None
    try:
        with PLACE.claim():
            events = tracing.events(window, runtime.requests)
        comments: list[str] = []
        for other, fault in shares.bodies() if shares is not None else ():
            if fault is not None:
                comments.append(fault)
            else:
                events += json.loads(other)["traceEvents"]
    finally:
        if shares is not None:
            shares.give_up()
    response = Response(tracing.document(events, comments), content_type="application/octet-stream")
    response.headers["Content-Disposition"] = 'attachment; filename="trace"'
    response.headers["X-Pprof-Format"] = "chrome-trace-events"
    return response


_TITLES: Final = {"profile": "CPU profiling", "trace": "tracing"}


def _answer(name: str, kind: Kind, query: Query, request: Request, runtime: Runtime) -> Response:
    left = left_within(request)
    neighbours = Neighbours(runtime)
    if isinstance(query.pid, int) and query.pid != os.getpid():
        return _relayed(name, query, neighbours, query.seconds or kind.seconds, left)
    target = Target(runtime.requests, list(runtime.views()))
    seconds = kind.seconds if query.seconds is None else query.seconds
    window = Window(seconds, query.hz, query.depth or kind.depth, left)
    if query.gc:
        gc.collect()
    text = kind.own_text(query.debug) if query.debug else None
    # Groups are of the whole service, so that the largest of all comes first.
    asked = query if text is not None else replace(query, debug=0)
    shares = of_all(neighbours, name, asked, window) if query.pid == EVERY else None
    try:
        if text is not None:
            said = text(target, window)
            return _plain(shares.texts(said) if shares is not None else said)
        taken = take(kind, target, window, asked=query.seconds is not None)
        if shares is not None:
            taken = shares.merged(taken)
        if query.debug:
            return _plain(dump.grouped(name, taken))
        return pprof_formats.response(name, taken, query)
    finally:
        if shares is not None:
            shares.give_up()


def _plain(text: str) -> Response:
    return Response(text, content_type="text/plain; charset=utf-8")


def _relayed(
    name: str,
    query: Query,
    neighbours: Neighbours,
    seconds: float,
    left: Callable[[float], bool],
) -> Response:
    assert isinstance(query.pid, int)
    if query.pid not in neighbours.pids():
        known = ", ".join(map(str, neighbours.pids()))
        raise RefusedError(404, f"no worker with pid {query.pid}: there are {known}")
    target = f"{query.target(name)}&format={query.format}"
    # When our client leaves we hang up, and the other worker ends its profile.
    answers = neighbours.ask_all(target, seconds=seconds + 5, pids=[query.pid], left=left)
    answer = answers[0] if answers else Answer(query.pid, fault="it has ended")
    if answer.fault is not None:
        raise RefusedError(503, f"worker {query.pid}: {answer.fault}")
    kept = {k: v for k, v in answer.headers.items() if k.startswith(("x-", "content-"))}
    return Response(answer.body, answer.status, headers=kept)


def trace(request: Request, runtime: Runtime, /) -> Response:
    """What the threads do, over time: Chrome trace events."""
    return _guarded("trace", request, lambda query: _trace(query, request, runtime))


def cmdline(request: Request, runtime: Runtime, /) -> Response:
    """The command line, NUL-joined, with secrets hidden."""
    return Response("\x00".join(redacted()), content_type="text/plain; charset=utf-8")


def symbol(request: Request, runtime: Runtime, /) -> Response:
    """That the profiles need no symbols: each has its own."""
    return Response("num_symbols: 1\n", content_type="text/plain; charset=utf-8")


def refusal(status: int, text: str) -> Response:
    """Go's ``serveError``; ``go tool pprof`` shows the text only with its header."""
    said = f"{status} {HTTPStatus(status).phrase}"  # the tool shows that too; werkzeug would shout
    response = Response(f"{text}\n", said, content_type="text/plain; charset=utf-8")
    response.headers["X-Go-Pprof"] = "1"
    return response


ROUTES: Final[Mapping[str, Route]] = {
    "/debug/pprof/": index,
    "/debug/pprof/cmdline": cmdline,
    "/debug/pprof/symbol": symbol,
    "POST /debug/pprof/symbol": symbol,
    "/debug/pprof/trace": trace,
    "/debug/pprof/<name>": profile,
}
