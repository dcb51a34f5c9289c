"""Every error as RFC 9457 problem details, whoever raised it.

One table says which status an exception answers with; what is not in it is a bug, answers
500 and tells the caller nothing but the request id to quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import flask
import orjson
import structlog
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import HTTP_STATUS_CODES

from threadkit import runtime
from threadkit.concurrency import Cancelled, DeadlineExceeded, Saturated
from threadkit.context import request_id
from threadkit.errors import ServiceError

MEDIA_TYPE = "application/problem+json"
CLIENT_LEFT = 499
"""nginx's number for a client that did not wait; nobody receives it, logs and metrics do."""

log = structlog.get_logger("threadkit.web")


def document(status: int, detail: str, *, kind: str | None = None, **extra: Any) -> dict[str, Any]:
    """A problem's members. ``kind`` names its type; without one the status says it all."""
    return {
        **extra,
        "type": f"urn:problem:{kind}" if kind else "about:blank",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "request_id": request_id.get(),
    }


def response(
    problem: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> flask.Response:
    """A problem as an answer."""
    answer = flask.Response(
        orjson.dumps(problem, default=str), status=problem["status"], content_type=MEDIA_TYPE
    )
    answer.headers.update(headers or {})
    return answer


def answer(error: Exception) -> flask.Response:
    """The answer to ``error``; logs what is a bug of the service."""
    worst = most_severe(error)
    status = status_of(worst)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(worst, ServiceError):
        log.error("unhandled exception", exc_info=error)
        return response(document(500, "The service failed. Quote the request_id to its owners."))
    match worst:
        case ServiceError():
            problem = document(status, worst.detail, kind=_kind(worst), **worst.extra)
            headers = {"Retry-After": str(worst.retry_after)} if worst.retry_after else {}
        case HTTPException():
            problem = document(status, _http_detail(worst))
            headers = _http_headers(worst)
        case Saturated():
            problem = document(status, "The service has too much to do.", kind=_kind(worst))
            headers = {"Retry-After": "1"}
        case DeadlineExceeded():
            problem = document(status, "The time limit of the request is over.", kind=_kind(worst))
            headers = {}
        case Cancelled(reason=runtime.CANCELLED_BY_OPERATOR):
            problem, headers = document(status, "The request was cancelled.", kind="cancelled"), {}
        case Cancelled(reason=runtime.CANCELLED_BY_STOP):
            detail = "The request took longer than this worker could wait, which is stopping."
            problem, headers = document(status, detail, kind="cancelled"), {"Retry-After": "1"}
        case _:
            problem, headers = document(status, "The client did not wait for the answer."), {}
    return response(problem, headers)


def status_of(error: Exception) -> int:
    """The status that one exception answers with."""
    match error:
        case ServiceError():
            return error.status
        case HTTPException(code=int(code)):
            return code
        # First: a deadline that passes in a line is both, and answers 503; and the client of a
        # request that an operator cancelled, or a stop, still waits for an answer.
        case (
            Saturated()
            | Cancelled(reason=runtime.CANCELLED_BY_OPERATOR | runtime.CANCELLED_BY_STOP)
        ):
            return HTTPStatus.SERVICE_UNAVAILABLE
        case DeadlineExceeded():
            return HTTPStatus.GATEWAY_TIMEOUT
        case Cancelled():
            return CLIENT_LEFT
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR


def most_severe(error: Exception) -> Exception:
    """The member of a group that matters most: 500 over 504 over 503 over what the caller did.

    Members that were only cancelled because a sibling failed do not count.
    """
    leaves = list(_leaves(error))
    causes = [e for e in leaves if not isinstance(e, Cancelled) or isinstance(e, DeadlineExceeded)]
    return max(causes or leaves, key=lambda leaf: _SEVERITY.get(status_of(leaf), 0))


_SEVERITY = {500: 3, 504: 2, 503: 1}


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


def _http_detail(error: HTTPException) -> str:
    match error:
        case NotFound():
            return "There is nothing at this path; /docs and /openapi.json tell what there is."
        case MethodNotAllowed(valid_methods=[*methods]) if methods:
            return f"This path answers {', '.join(sorted(methods))}."
        case _:
            return error.description or _title(error.code or 500)


def _http_headers(error: HTTPException) -> dict[str, str]:
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        return {"Allow": ", ".join(sorted(error.valid_methods))}
    return {
        name: value for name, value in error.get_headers() if name in ("Retry-After", "Location")
    }


def _kind(error: Exception) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()


def _title(status: int) -> str:
    # Not http.HTTPStatus, whose phrases differ between versions of Python.
    return HTTP_STATUS_CODES.get(status, "Client Closed Request")
