"""The outermost layer of a request: its id, its scope, its place in the list of those in
flight, its log line and its metrics.

It stands outside Flask, so that it sees what Flask does not: answers of other middleware,
errors while a response streams, and the moment when the last byte has gone.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from threadkit import arrival
from threadkit.concurrency import Cancelled, CancelScope, ExpiredInLine, timeline
from threadkit.context import accepted_request_id, new_request_id, request_id
from threadkit.ledger import Answered
from threadkit.limits import HEALTH
from threadkit.observability import logs, metrics
from threadkit.runtime import REQUEST_RECORD, RequestRecord, Runtime
from threadkit.web import callers, problems
from threadkit.web.headers import SECURITY_HEADERS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

EXCHANGE = "threadkit.exchange"
"""Where a request's ``Exchange`` is in its WSGI environment."""


class RequestMiddleware:
    """Wraps a WSGI application; thread-safe, one ``Exchange`` a request."""

    def __init__(self, app: WSGIApplication, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._runtime.started:
            self._runtime.start()
        exchange = Exchange(self._runtime, environ, start_response)
        try:
            return exchange.answer(self._app)
        except BaseException:
            exchange.finish()
            raise


class Exchange:
    """One request and its answer, until the server closes the iterable. One thread uses it."""

    def __init__(
        self, runtime: Runtime, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._runtime = runtime
        self._environ = environ
        self._start_response = start_response
        self._status = 500
        self._chunks: Iterable[bytes] = ()
        self._delivered = False
        self._finished = False
        identity = accepted_request_id(environ.get("HTTP_X_REQUEST_ID")) or new_request_id()
        self._record = RequestRecord(
            id=identity,
            method=environ.get("REQUEST_METHOD", ""),
            path=environ.get("PATH_INFO", ""),
            waited=0.0 if environ.get("PATH_INFO") in HEALTH else arrival.waited(environ),
        )
        environ[REQUEST_RECORD] = self._record
        environ[EXCHANGE] = self
        runtime.requests.add(self._record)
        request_id.set(identity)
        timeline.current.set(self._record.timeline)
        metrics.enter()
        granted = callers.time_limit(environ, metrics.MALFORMED_LIMITS.inc)
        self._scopes = [self._scope(granted)]
        self._record.root = self._record.scope = self._scopes[0].__enter__()

    def take_route(self, route: str, seconds: float | None) -> None:
        """The route is known, and with it the time limit; it holds until the last byte.

        ``ExpiredInLine`` for a request that has waited longer than that before it came here.
        """
        record = self._record
        record.route = route
        scope = self._scope(seconds, route)
        if seconds is not None and record.waited >= max(seconds, arrival.NOISE):
            msg = f"the request had waited {record.waited:.3g} s, and its route has {seconds:.3g} s"
            raise ExpiredInLine(msg, scope)
        self._scopes.append(scope)
        self._record.scope = scope.__enter__()
        if seconds is not None and (end := scope.deadline) is not None:
            self._record.limit = end - self._record.started

    def _scope(self, seconds: float | None, name: str = "") -> CancelScope:
        # The client has been waiting since its last byte, wherever the request was.
        return CancelScope(None if seconds is None else seconds - self._record.waited, name=name)

    def leave_scopes(self) -> None:
        """The answer is complete, or the last byte has gone: what still runs is cancelled.

        An answer that is no stream comes here before it is written. A test client that looks
        at the status alone never closes it, and must not stay under the deadline for that.
        """
        while self._scopes:
            self._scopes.pop().__exit__(None, None, None)
        self._record.scope = None
        while self._record.at_end:
            self._record.at_end.pop()()
        # The thread keeps its context from one request to the next.
        request_id.set(None)
        timeline.current.set(None)

    def answer(self, app: WSGIApplication) -> Exchange:
        """Call the application; the exchange itself is the iterable."""
        try:
            self._chunks = app(self._environ, self._start)
        except Exception as error:
            # What middleware between here and Flask raises; Flask answers its own errors.
            self._chunks = problems.answer(error)(self._environ, self._start)
            self.leave_scopes()
        return self

    def __iter__(self) -> Iterator[bytes]:
        record = self._record
        try:
            for chunk in self._chunks:
                if record.client_left and record.scope is not None:
                    raise Cancelled  # for a stream that does not look by itself
                record.with_client = True
                yield chunk
                record.with_client = False
        except Cancelled:
            if not record.client_left:
                raise
            # What the server would have heard from its next write. A stream that just ended
            # here would look complete to a client that has only closed its own half.
            raise ConnectionResetError(errno.ECONNRESET, "the client left") from None
        # Who has got everything may leave while the server is still closing the answer.
        self._delivered = not record.client_left

    def close(self) -> None:
        """Called by the server after the last byte, or when it gives up."""
        try:
            close: Callable[[], None] | None = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        finally:
            self.finish()

    def finish(self) -> None:
        """Write the log line and the metrics, once."""
        if self._finished:
            return
        self._finished = True
        record = self._record
        self.leave_scopes()
        self._runtime.request_ended(record)
        self._runtime.requests.discard(record)
        if record.dropped:
            return
        if not self._delivered and (record.client_left or arrival.has_left(self._environ)):
            self._status = problems.CLIENT_LEFT
        seconds = time.monotonic() - record.started
        request_id.set(record.id)
        metrics.leave(record.method, record.route, self._status, seconds)
        self._note(seconds)
        logs.request(
            method=record.method,
            path=record.path,
            route=record.route,
            status=self._status,
            duration_ms=round(seconds * 1000, 2),
            client=self._environ.get("REMOTE_ADDR"),
        )
        request_id.set(None)

    def _note(self, seconds: float) -> None:
        record, ledger = self._record, self._runtime.ledger
        ledger.count(self._status)
        if record.limit is not None and ledger.wants(seconds, record.limit):
            cpu = time.thread_time() - record.cpu_started
            ledger.keep(
                Answered(
                    id=record.id,
                    method=record.method,
                    path=record.path,
                    route=record.route,
                    status=self._status,
                    seconds=seconds,
                    cpu_seconds=cpu if record.thread_id == threading.get_ident() else 0.0,
                    limit=record.limit,
                    timeline=record.timeline,
                    waited=record.waited,
                )
            )

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        self._status = int(status[:3])
        present = {name.lower() for name, _ in headers}
        headers.append(("X-Request-ID", self._record.id))
        headers.extend(h for h in SECURITY_HEADERS if h[0].lower() not in present)
        if exc_info:
            return self._start_response(status, headers, exc_info)
        return self._start_response(status, headers)
