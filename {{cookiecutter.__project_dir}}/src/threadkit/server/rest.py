"""The rest of a body that is too large to be gathered, read by the thread that needs it.

It has BODY_TIMEOUT in all, from the first read to the last byte, however the client spreads
what it sends.
"""

from __future__ import annotations

import io
import time
from typing import Any, Final

from threadkit.errors import BadRequest, ContentTooLarge, RequestTimeout
from threadkit.server.chunks import Chunks
from threadkit.server.connection import Connection
from threadkit.server.faults import Fault
from threadkit.server.wire import Received

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Rest(io.RawIOBase):
    """``wsgi.input``: what was gathered already, then what still comes. One thread uses it."""

    def __init__(self, connection: Connection, received: Received, timeout: float) -> None:
        super().__init__()
        self._connection = connection
        self._ready = bytearray(received.body)
        self._rest = received.rest
        self._asks = received.asks
        self._timeout = timeout
        self._until: float | None = None

    @property
    def finished(self) -> bool:
        """Whether all of it has been read from the connection."""
        if isinstance(self._rest, Chunks):
            return self._rest.complete
        return self._rest == 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self.finished:
            self._read_some()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        del self._ready[:count]
        return count

    def _read_some(self) -> None:
        incoming = self._connection.inflow.buffer
        if not incoming or isinstance(self._rest, Chunks):
            incoming += self._receive()
        if isinstance(self._rest, Chunks):
            try:
                self._ready += self._rest.decode(incoming)
            except Fault as fault:
                error = ContentTooLarge if fault.status == 413 else BadRequest
                raise error(fault.detail) from fault
        else:
            piece = incoming[: self._rest]
            del incoming[: len(piece)]
            self._ready += piece
            self._rest -= len(piece)

    def _receive(self) -> bytes:
        connection = self._connection
        if self._until is None:
            self._until = time.monotonic() + self._timeout
        if self._asks:
            self._asks = False
            connection.sock.send(_CONTINUE)
        while (left := self._until - time.monotonic()) > 0:
            if connection.becomes_readable(max(1, int(left * 1000))):
                data = connection.sock.recv(65_536)
                if not data:
                    msg = "the client closed the connection in the midst of a body"
                    raise ConnectionResetError(msg)
                return data
        msg = f"The body did not arrive within {self._timeout:g} s."
        raise RequestTimeout(msg)
