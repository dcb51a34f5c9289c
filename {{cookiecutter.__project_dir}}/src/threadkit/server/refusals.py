"""What the worker answers by itself: problem+json with a request id, logged and counted.

These answers never reach the application, so they are made here, and are the same to a
caller, to the log and to the metrics as those that did.
"""

from __future__ import annotations

import re
import time
from typing import Any, Final

import orjson

from threadkit.context import accepted_request_id, new_request_id, request_id
from threadkit.observability import logs, metrics
from threadkit.server.connection import Connection
from threadkit.server.faults import FAILED, Fault
from threadkit.server.gunicorn_names import errors

_TITLES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_REQUEST_ID: Final = re.compile(rb"\r\nx-request-id:[ \t]*([!-~]{1,128})[ \t]*\r\n", re.IGNORECASE)
_FIRST_LINE: Final = re.compile(rb"(?:\r\n)?([A-Z]{1,20}) (/[!-~]*) HTTP/")


def from_parser(error: Exception) -> Fault:
    """What gunicorn's parser holds against a request, as an answer."""
    match error:
        case errors.LimitRequestLine():
            return Fault(414, "The first line of the request is too long.")
        case errors.LimitRequestHeaders():
            return Fault(431, "The head of the request is too large.")
        case errors.ExpectationFailed():
            return Fault(417, "The only expectation that is met is 100-continue.")
        case errors.InvalidHTTPVersion():
            return Fault(505, "This service speaks HTTP/1.1 and HTTP/1.0.")
        case errors.ConfigurationProblem():
            return FAILED
        case _:
            return Fault(400, "The head of the request is malformed.")


class Refusals:
    """Makes early answers, and one log line and one count for each. Thread-safe."""

    def make(self, fault: Fault, connection: Connection, head: bytes) -> bytes:
        """The bytes to send, with which the connection ends. ``head`` is what there is of one."""
        asked = _REQUEST_ID.search(head)
        identity = accepted_request_id(asked[1].decode("ascii") if asked else None)
        identity = identity or new_request_id()
        first = _FIRST_LINE.match(head)
        method = first[1].decode() if first else ""
        path = first[2].partition(b"?")[0].decode() if first else ""
        seconds = max(0.0, time.monotonic() - connection.last)
        metrics.observe(method or "OTHER", None, fault.status, seconds)
        token = request_id.set(identity)
        logs.request(
            method=method,
            path=path,
            route=None,
            status=fault.status,
            duration_ms=round(seconds * 1000, 2),
            client=connection.client[0] if isinstance(connection.client, tuple) else "",
            refused=fault.detail,
        )
        request_id.reset(token)
        return _answer(fault, identity, bodiless=method == "HEAD")


def _answer(fault: Fault, identity: str, *, bodiless: bool) -> bytes:
    title = _TITLES[fault.status]
    document: dict[str, Any] = {
        "type": f"urn:problem:{fault.kind}" if fault.kind else "about:blank",
        "title": title,
        "status": fault.status,
        "detail": fault.detail,
        "request_id": identity,
    }
    body = orjson.dumps(document)
    again = "Retry-After: 1\r\n" if fault.status == 503 else ""
    head = (
        f"HTTP/1.1 {fault.status} {title}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Request-ID: {identity}\r\n{again}\r\n"
    )
    return head.encode("ascii") + (b"" if bodiless else body)
