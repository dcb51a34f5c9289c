"""What a thread does with a connection whose request is complete.

It answers, and as long as nobody waits in line it looks for the next request on the same
connection itself, for a moment: most clients that have more to ask do so at once, and the way
over the main thread and to another thread costs more than many a handler. Then it gives the
connection back and takes the next one in line along.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from threadkit.server import refusals
from threadkit.server.connection import Connection
from threadkit.server.environ import Environs
from threadkit.server.faults import FAILED, Fault
from threadkit.server.gunicorn_names import errors
from threadkit.server.head import Snapshot, parse
from threadkit.server.line import Line
from threadkit.server.refusals import Refusals
from threadkit.server.rest import Rest
from threadkit.server.wire import Stage
from threadkit.server.writing import Answer, SlowReaderError, send

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = structlog.get_logger("threadkit.server")

_LOOK_FOR_MORE: Final = 1
"""Milliseconds that a thread waits for its client's next request."""


class Owner(Protocol):
    """To whom a thread gives a connection when it is done with it."""

    def take_back(self, connection: Connection) -> None:
        """It is kept for another request."""

    def see_off(self, connection: Connection) -> None:
        """The last answer is on its way."""

    def close(self, connection: Connection) -> None:
        """Nothing more can be said on it."""


class Answering:
    """Answers requests with ``app``. Thread-safe: what a request needs is its thread's own."""

    def __init__(
        self,
        app: WSGIApplication,
        cfg: Any,
        line: Line,
        *,
        body_timeout: float,
        write_timeout: float,
        after_each: Callable[[], None],
    ) -> None:
        self._app = app
        self._cfg = Snapshot(cfg)
        self._environs = Environs(cfg)
        self._line = line
        self._refusals = Refusals()
        self._body_timeout = body_timeout
        self._write_timeout = write_timeout
        self._after_each = after_each
        self.closing = False
        """Every answer ends its connection: the worker is leaving."""

    def serve(self, connection: Connection, owner: Owner) -> None:
        """Answer its request, and then those of whoever is first in line."""
        mine: Connection | None = connection
        while mine is not None:
            exempt, kept = mine.exempt, False
            try:
                kept = self._serve(mine, owner)
            except Exception:
                log.exception("a connection failed")
                owner.close(mine)
            # The place first: whoever gets the connection back may be quicker than we are.
            following = None if exempt else self._line.leave(mine)
            if kept:
                owner.take_back(mine)
            mine = following

    def _serve(self, connection: Connection, owner: Owner) -> bool:
        """Answer as long as there is more to answer; True where the connection is kept."""
        while True:
            connection.answered = False
            began = time.monotonic()
            kept = self._answer(connection, owner)
            self._line.took(time.monotonic() - began)
            if not kept:
                return False
            if connection.exempt or self.closing or len(self._line):
                break
            try:
                if not self._has_more(connection):
                    break
            except ConnectionError:
                owner.close(connection)
                return False
            except Fault:
                break  # take_back finds it again
        return True

    def _has_more(self, connection: Connection) -> bool:
        """Whether the next request is there, within the moment that is waited for it."""
        if connection.inflow.buffer:
            more = connection.inflow.look() is Stage.READY
        else:
            if not connection.becomes_readable(_LOOK_FOR_MORE):
                return False
            data = connection.sock.recv(65_536)
            if not data:
                raise ConnectionResetError
            more = connection.inflow.feed(data) is Stage.READY
        connection.arrived = connection.last = time.monotonic()
        return more

    def _answer(self, connection: Connection, owner: Owner) -> bool:
        """Answer one request; True where the connection is kept, else it is dealt with."""
        received = connection.inflow.take()
        connection.requests += 1
        try:
            head = parse(self._cfg, received.head, connection.client, connection.requests)
        except (errors.ParseException, Fault) as error:
            fault = error if isinstance(error, Fault) else refusals.from_parser(error)
            self.refuse(fault, connection, received.head, owner)
            return False
        body: Any = io.BytesIO(received.body)
        if received.rest:
            body = io.BufferedReader(Rest(connection, received, self._body_timeout))
        answer = Answer(head, connection, self._cfg, self._write_timeout)
        answer.must_close = self.closing or bool(received.rest)
        try:
            environ = self._environs.make(head, connection, body)
            self._run(environ, answer)
        except SlowReaderError as slow:
            log.warning("a slow client was let go", path=head.path, reason=str(slow))
        except OSError as error:
            log.debug("the client left", path=head.path, reason=str(error))
        except BaseException as error:
            log.exception("the application failed")
            if isinstance(error, Exception) and not answer.begun:
                self.refuse(FAILED, connection, received.head, owner)
                return False
        else:
            self._after_each()
            if not answer.falls_short and not answer.should_close():
                return True
            if answer.falls_short:
                log.error("the answer is shorter than its Content-Length", path=head.path)
            owner.see_off(connection)
            return False
        self._after_each()
        owner.close(connection)
        return False

    def _run(self, environ: dict[str, Any], answer: Answer) -> None:
        chunks = self._app(environ, answer.start_response)
        try:
            for chunk in chunks:
                answer.write(chunk)
            answer.close()
        finally:
            close: Callable[[], None] | None = getattr(chunks, "close", None)
            if close is not None:
                close()

    def refuse(self, fault: Fault, connection: Connection, head: bytes, owner: Owner) -> None:
        """Answer early, with which the connection ends. From any thread that owns it."""
        answer = self._refusals.make(fault, connection, head)
        try:
            # What is not taken at once by an empty socket is not worth to wait for.
            send(connection, answer, 0.0)
        except OSError:
            owner.close(connection)
        else:
            owner.see_off(connection)
