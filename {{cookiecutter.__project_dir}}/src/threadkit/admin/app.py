"""What the admin address answers: a table of routes and one rule about who may ask.

A route is a function of a request and the runtime; its pattern is a werkzeug rule,
preceded by its method where that is not GET (as in Go's ServeMux):

    def cancel(request: Request, runtime: Runtime, *, id: str) -> Response: ...

    AdminApp(runtime, {**ROUTES, "POST /debug/requests/<id>/cancel": cancel})
"""

from __future__ import annotations

import hmac
import html
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, RequestRedirect, Rule
from werkzeug.wrappers import Request, Response

from threadkit.context import (
    REQUEST_ID_HEADER,
    accepted_request_id,
    new_request_id,
    request_id,
)
from threadkit.hosts import is_loopback
from threadkit.observability import metrics
from threadkit.runtime import Runtime

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger("threadkit.admin")

OPEN: Final = frozenset({"/livez", "/readyz"})
"""Paths that never need the token: whoever probes them has none."""

_LARGEST_BODY: Final = 64 * 1024


Route = Callable[..., Response]
"""Answers one pattern: ``(request, runtime, **values)``, the values being the parts of the
path that the pattern names. Its docstring's first line is its entry in the index."""


class AdminApp:
    """A WSGI application over ``routes``. Thread-safe; never raises."""

    def __init__(self, runtime: Runtime, routes: Mapping[str, Route] | None = None) -> None:
        self._runtime = runtime
        self._routes = dict(ROUTES if routes is None else routes)
        self._routes.setdefault("/", self._index)
        token = runtime.settings.admin_token
        self._token = token.get_secret_value().encode() if token is not None else b""
        self._map = Map([_rule(pattern) for pattern in self._routes], strict_slashes=True)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = _LARGEST_BODY
        identity = accepted_request_id(request.headers.get(REQUEST_ID_HEADER)) or new_request_id()
        variable = request_id.set(identity)
        try:
            response = self._answer(request)
            response.headers[REQUEST_ID_HEADER] = identity
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            response.headers.setdefault("Cache-Control", "no-store")
            return response(environ, start_response)
        finally:
            request_id.reset(variable)

    def _answer(self, request: Request) -> Response:
        try:
            # Before the routes are looked at: to the uninvited, all of them are missing.
            if request.path not in OPEN and not self._allows(request):
                return problem(404)
            adapter: MapAdapter = self._map.bind_to_environ(request.environ)
            pattern, values = adapter.match()
            return self._routes[pattern](request, self._runtime, **values)
        except RequestRedirect as error:
            return error.get_response(request.environ)
        except HTTPException as error:
            response = problem(error.code or 500)
            if allowed := getattr(error, "valid_methods", None):
                response.headers["Allow"] = ", ".join(sorted(allowed))
            return response
        except Exception:
            log.exception("admin request failed", method=request.method, path=request.path)
            return problem(500)

    def _allows(self, request: Request) -> bool:
        if not self._token:
            # The settings see to it that the address is loopback then; a socket that was
            # inherited from elsewhere may not be. A neighbour's unix socket has no address.
            peer = request.remote_addr
            return not peer or is_loopback(peer)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        presented = given.strip().encode("latin-1", "replace")
        return scheme.lower() == "bearer" and hmac.compare_digest(presented, self._token)

    def _index(self, request: Request, runtime: Runtime, /) -> Response:
        """This page."""
        items = "".join(
            f'<li><a href="{html.escape(pattern)}">{html.escape(pattern)}</a> {_summary(route)}'
            for pattern, route in sorted(self._routes.items())
            if pattern.startswith("/") and "<" not in pattern
        )
        page = f"<!doctype html><title>Admin</title><h1>Admin</h1><ul>{items}</ul>\n"
        response = Response(page, mimetype="text/html")
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        return response


def problem(status: int, detail: str | None = None, **members: Any) -> Response:
    """An RFC 9457 problem document, as the public address answers them."""
    title = _TITLES.get(status, "Error")
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail or _DETAILS.get(status, title),
        **members,
        "request_id": request_id.get(),
    }
    response = Response(orjson.dumps(document), status, mimetype="application/problem+json")
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


_TITLES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_DETAILS: Final = {
    404: "There is nothing at this path.",
    405: "This path does not answer that method.",
    500: "The request failed; the log has the reason under this request id.",
}


def _rule(pattern: str) -> Rule:
    method, _, path = pattern.rpartition(" ")
    return Rule(path, endpoint=pattern, methods=[method or "GET"])


def _summary(route: Route) -> str:
    return html.escape((route.__doc__ or "").strip().partition("\n")[0])


def _livez(request: Request, runtime: Runtime, /) -> Response:
    """Whether this worker answers at all."""
    return Response(b'{"status":"alive"}', mimetype="application/json")


def _readyz(request: Request, runtime: Runtime, /) -> Response:
    """Whether the service should be sent requests, and if not why."""
    readiness = runtime.readiness()
    document = readiness.document()
    if readiness.ready:
        return Response(orjson.dumps(document), mimetype="application/json")
    extra = {k: v for k, v in document.items() if k not in ("type", "title", "status", "detail")}
    return problem(503, document["detail"], **extra)


def _metrics(request: Request, runtime: Runtime, /) -> Response:
    """Numbers of all workers, for Prometheus."""
    body, content_type = metrics.render()
    return Response(body, content_type=content_type)


ROUTES: Final[Mapping[str, Route]] = {
    "/livez": _livez,
    "/readyz": _readyz,
    "/metrics": _metrics,
}
"""What is there from the start; the extension adds what other rooms offer."""
