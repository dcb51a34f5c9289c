"""One request on the admin address, from its head to the last byte of the answer.

HTTP/1.0 on the standard library: one request a connection, its end is the end of the
answer. Probes and scrapers want no more, and so no connection outlives its answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler

import structlog

from threadkit.profiling.switching import SWITCHING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = structlog.get_logger("threadkit.admin")

CONNECTION: Final = "threadkit.connection"
"""Where the client's socket is in the WSGI environment: a long answer looks whether it left."""


PROMPT: Final = 100e-6
"""Seconds that a busy handler may hold the interpreter lock while an answer is made: each read
and write gives it up, and every thread that computes may come in between."""


class Exchange(threading.Thread):
    """Answers one request whose head has arrived. The server that starts it joins it."""

    def __init__(
        self,
        app: WSGIApplication,
        connection: socket.socket,
        peer: Any,
        head: bytes,
        patience: float,
    ) -> None:
        # daemon is the net for a process that ends without closing; close() joins.
        super().__init__(name="admin-exchange", daemon=True)
        self._app = app
        self._connection = connection
        # A neighbour on the unix socket has no address; the standard handler wants a pair.
        self._peer = peer if isinstance(peer, tuple) else ("", 0)
        self._head = head
        self._patience = patience

    def run(self) -> None:
        """Answer and close; a client that leaves or stalls ends it, never an exception."""
        try:
            self._connection.settimeout(self._patience)
            with SWITCHING.at_most(PROMPT):
                _Handler(self._connection, self._peer, _Server(self))  # type: ignore[arg-type]
        except OSError:
            pass
        except Exception:
            log.exception("admin connection failed")
        finally:
            close(self._connection)

    def interrupt(self) -> None:
        """Make the client's socket fail, so that a thread blocked on it comes back."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def reader(self) -> io.BufferedReader:
        """What the client sent: the head that was read already, then the rest."""
        until = time.monotonic() + self._patience
        return io.BufferedReader(_Rest(self._head, self._connection, until))

    @property
    def connection(self) -> socket.socket:
        """The client's."""
        return self._connection

    @property
    def app(self) -> WSGIApplication:
        """The application that answers."""
        return self._app


def close(connection: socket.socket) -> None:
    """Close without a reset: what the client still sent is read, so that it sees the answer."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.setblocking(False)
        connection.recv(64 * 1024)
    connection.close()


def refusal(status: int, title: str, detail: str) -> bytes:
    """A whole answer, for requests that never reach the application."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body = json.dumps({**document, "request_id": None}).encode()
    head = (
        f"HTTP/1.0 {status} {title}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class _Rest(io.RawIOBase):
    """A socket with a prefix and one deadline for everything that is still to come."""

    def __init__(self, prefix: bytes, connection: socket.socket, until: float) -> None:
        self._prefix = memoryview(prefix)
        self._connection = connection
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), len(self._prefix))
        if size:
            buffer[:size] = self._prefix[:size]
            self._prefix = self._prefix[size:]
            return size
        # Per read it would be no limit at all: a byte every four seconds could go on.
        self._connection.settimeout(max(0.001, self._until - time.monotonic()))
        return self._connection.recv_into(buffer)


class _Server:
    """The little that the standard handler asks of its server."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.base_environ = {
            "SERVER_NAME": "admin",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PORT": "",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
            "SCRIPT_NAME": "",
        }

    def get_app(self) -> WSGIApplication:
        return self.exchange.app


class _Handler(WSGIRequestHandler):
    server: _Server  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = self.server.exchange.reader()

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(_LONGEST_LINE + 1)
        if len(self.raw_requestline) > _LONGEST_LINE:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
        elif self.parse_request():
            environ = {**self.get_environ(), CONNECTION: self.server.exchange.connection}
            respond = _Respond(
                self.rfile, cast("IO[bytes]", self.wfile), io.StringIO(), environ, multithread=True
            )
            respond.run(self.server.get_app())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        title = self.responses[code][0]
        self.wfile.write(refusal(code, title, message or title))

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited name
        """Nothing: probes would fill the log."""


class _Respond(SimpleHandler):
    os_environ: dict[str, str] = {}  # noqa: RUF012 - inherited name; keeps secrets out of environ
    wsgi_run_once = False

    def log_exception(self, exc_info: Any) -> None:
        if not isinstance(exc_info[1], OSError):
            log.error("admin answer broke off", exc_info=exc_info)

    def error_output(self, environ: Any, start_response: Any) -> list[bytes]:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b"The answer failed; the log has the reason.\n"]


_LONGEST_LINE: Final = 16 * 1024
