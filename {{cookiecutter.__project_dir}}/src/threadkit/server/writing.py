"""How an answer goes out: head and first bytes in one piece, to a client that has its time.

A client that reads slowly holds the thread that writes to it, so each slice of an answer must
be taken within WRITE_TIMEOUT. Streams may last; who stops reading them is let go.
"""

from __future__ import annotations

import time
from typing import Any, Final

from threadkit.server.connection import Connection
from threadkit.server.gunicorn_names import Response

SLICE: Final = 256 * 1024
"""Bytes that a client may take WRITE_TIMEOUT for."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


# Headers that gunicorn has found to be well-formed; those that are the same in most answers.
_known: set[tuple[str, str]] = set()
_MOST_KNOWN: Final = 256
_REPEATED: Final = frozenset(
    {
        *("cache-control", "content-security-policy", "content-type", "referrer-policy"),
        *("cross-origin-resource-policy", "strict-transport-security", "vary"),
        *("x-content-type-options", "x-frame-options"),
    }
)


class SlowReaderError(TimeoutError):
    """The client did not take a slice of the answer in time."""


def send(connection: Connection, data: bytes, timeout: float) -> None:
    """All of ``data``; raises ``OSError`` where the client has gone or is too slow."""
    try:
        sent = connection.sock.send(data)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        _send_slowly(connection, memoryview(data)[sent:], timeout)


def _send_slowly(connection: Connection, data: memoryview, timeout: float) -> None:
    until, taken = time.monotonic() + timeout, 0
    while data:
        left = until - time.monotonic()
        if left <= 0 or not connection.becomes_writable(max(1, int(left * 1000))):
            if time.monotonic() < until:
                continue
            msg = f"the client took {taken} bytes in {timeout:g} s (WRITE_TIMEOUT)"
            raise SlowReaderError(msg)
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            continue
        data = data[sent:]
        taken += sent
        if taken >= SLICE:
            until, taken = time.monotonic() + timeout, 0


class Clock:
    """The Date of an answer, made once a second. Threads may share one."""

    def __init__(self) -> None:
        self._made: tuple[int, str] = (0, "")

    def date(self) -> str:
        """As RFC 9110 wants it."""
        second, text = self._made
        now = int(time.time())
        if now != second:
            t = time.gmtime(now)
            text = (
                f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
                f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
            )
            self._made = now, text
        return text


_clock = Clock()


class Answer(Response):  # type: ignore[misc]
    """gunicorn's response, which keeps its head until there is something to send with it."""

    def __init__(self, request: Any, connection: Connection, cfg: Any, timeout: float) -> None:
        super().__init__(request, connection.sock, cfg)
        self._connection = connection
        self._timeout = timeout
        self._kept = b""
        self.headers_sent: bool = False
        self.begun = False
        """Something of it is on its way, so that nothing else can be answered any more."""

    @property
    def falls_short(self) -> bool:
        """Less was sent than was announced: what comes next would be taken for the rest of it."""
        announced = self.response_length
        return announced is not None and self.sent < announced and not self._omits_body

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """gunicorn's, which need not look at the same header twice."""
        known = [pair for pair in headers if pair in _known]
        if len(known) < len(headers):
            new = [pair for pair in headers if pair not in _known]
            before = len(self.headers)
            super().process_headers(new)
            for pair in self.headers[before:]:
                if pair in new and pair[0].lower() in _REPEATED and len(_known) < _MOST_KNOWN:
                    _known.add(pair)
        self.headers.extend(known)

    def default_headers(self) -> list[str]:
        """gunicorn's, with a date that is not made anew for each answer."""
        version = self.req.version
        connection = "close" if self.should_close() else "keep-alive"
        headers = [
            f"HTTP/{version[0]}.{version[1]} {self.status}\r\nServer: {self.version}\r\n"
            f"Date: {_clock.date()}\r\nConnection: {connection}\r\n"
        ]
        if self.chunked:
            headers.append("Transfer-Encoding: chunked\r\n")
        return headers

    def send_headers(self) -> None:
        """Keep them for the first bytes of the body."""
        if self.headers_sent:
            return
        lines = self.default_headers()
        lines += [f"{name}: {value}\r\n" for name, value in self.headers]
        lines.append("\r\n")
        self._kept = "".join(lines).encode("latin-1")
        self.headers_sent = True

    def close(self) -> None:
        """The answer is complete."""
        self.send_headers()
        end = b"0\r\n\r\n" if self.chunked else b""
        self._connection.answered = True
        if self._kept or end:
            self._put(end)

    def _emit_body(self, data: bytes) -> None:
        if self.response_length is not None and self.sent >= self.response_length:
            self._connection.answered = True
        self._put(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _put(self, data: bytes) -> None:
        kept, self._kept = self._kept, b""
        self.begun = True
        if kept and len(data) > SLICE:  # to copy it would cost more than to send twice
            send(self._connection, kept, self._timeout)
        elif kept:
            data = kept + data
        send(self._connection, data, self._timeout)
