"""What a client has sent so far, and whether it is a whole request yet.

The poller feeds this with whatever arrives, so that a thread only ever gets requests that are
complete: a client that is slow, or has stopped in the midst of a header, costs some memory
and no thread. It also is the one place that decides where a request ends. gunicorn's parser
judges the head; the body is cut out here, so no two readers can disagree about its length.

    inflow = Inflow(Limits(...))
    while inflow.feed(connection.recv(65536)) is not Stage.READY: ...
    received = inflow.take()
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from threadkit.server.chunks import Chunks
from threadkit.server.faults import Fault, too_large

_END: Final = b"\r\n\r\n"
_FRAMING: Final = re.compile(
    rb"\r\n(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE
)
# HTTP/1.0 has no such thing, and who asks for it there must not be told.
_EXPECTS: Final = re.compile(
    rb"(?s)[^\r\n]* HTTP/1\.1\r\n.*?\r?\n?expect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE
)
_BEGINNING: Final = re.compile(rb"\r?\n?[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
_FIRST_LINE: Final = re.compile(rb"(?:\r\n)?[!-~]+ [!-~]+ HTTP/[0-9.]+\r?")
_DIGITS: Final = re.compile(rb"0*([0-9]+)")
_MOST_DIGITS: Final = 18
"""Of a length that is worth to be read as a number; a longer one is too large for anybody."""


class Stage(Enum):
    """How far a request has come."""

    IDLE = "nothing of it is there"
    HEAD = "a part of its head is there"
    BODY = "its head is there, a part of its body is missing"
    READY = "a thread can begin"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes: of a head, of a line of it, of a body, and of a body that is gathered at once."""

    head: int = 65_536
    line: int = 8190
    body: int = 1024 * 1024
    gathered: int = 1024 * 1024


@dataclass(slots=True)
class Received:
    """A request as it was sent. ``rest`` is how much of its body has yet to be read."""

    head: bytes
    body: bytes = b""
    rest: int | Chunks = 0
    asks: bool = False
    """The client waits for ``100 Continue`` before it sends the body."""


class Inflow:
    """The bytes that came in on one connection; one thread at a time."""

    __slots__ = (
        *("_chunks", "_end", "_fault", "_limits", "_missing", "_searched"),
        *("asks", "body", "buffer"),
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.buffer = bytearray()
        self._begin()

    def _begin(self) -> None:
        self._searched = 0
        self._end = 0  # of the head; 0 as long as it has none
        self._missing = 0  # bytes of a body whose length was announced
        self._chunks: Chunks | None = None
        self._fault: Fault | None = None
        self.body = bytearray()
        self.asks = False

    @property
    def held(self) -> int:
        """Bytes of memory that it takes."""
        return len(self.buffer) + len(self.body)

    def forget(self) -> None:
        """Nothing of it is wanted any more."""
        self.buffer.clear()
        self._begin()

    def feed(self, data: bytes) -> Stage:
        """Add what has arrived. Raises ``Fault`` for what is not, or must not be, a request."""
        self.buffer += data
        return self.look()

    def look(self) -> Stage:
        """Where the request at the front stands; after a ``Fault`` always that."""
        if self._fault is not None:
            raise self._fault
        try:
            return self._look()
        except Fault as fault:
            # Who asks again (a thread first, then the poller) must not find another request in it.
            self._fault = fault
            raise

    def _look(self) -> Stage:
        buffer = self.buffer
        if not self._end:
            found = buffer.find(_END, self._searched)
            if found < 0:
                return self._look_at_part_of_a_head()
            if found > self._limits.head:
                raise Fault(431, "The head of the request is too large.")
            self._end = found + len(_END)
            head = bytes(buffer[: self._end])
            small = head.lower()
            if b"\ncontent-length" in small or b"\ntransfer-encoding" in small:
                self._read_framing(head)
        if self._chunks is not None:
            return self._look_at_chunks(self._chunks)
        if len(buffer) - self._end >= self._missing or self._missing > self._limits.gathered:
            return Stage.READY
        return Stage.BODY

    def take(self) -> Received:
        """The request that is ready; what follows it stays for the next one."""
        buffer, end, missing, chunks = self.buffer, self._end, self._missing, self._chunks
        received = Received(bytes(buffer[:end]), asks=self.asks)
        if chunks is not None:
            received.body = bytes(self.body)
            received.rest = 0 if chunks.complete else chunks
        elif missing:
            received.body = bytes(buffer[end : end + missing])
            received.rest = missing - len(received.body)
            end += len(received.body)
        del buffer[:end]
        self._begin()
        return received

    def mentions(self, path: bytes) -> bool:
        """Whether the request could be one for ``path``; ``target`` tells for certain."""
        return self.buffer.find(path, 0, len(path) + 20) >= 0

    def target(self) -> bytes:
        """The path of the request that is ready, as sent, without its query."""
        return self.method_and_target()[1]

    def method_and_target(self) -> tuple[bytes, bytes]:
        """Of the request that is ready, as sent; the target without its query."""
        line = self.buffer[: self._end].lstrip(b"\r\n").split(b" ", 2)
        return (bytes(line[0]), bytes(line[1]).partition(b"?")[0]) if len(line) == 3 else (b"", b"")

    def _look_at_part_of_a_head(self) -> Stage:
        buffer = self.buffer
        if not buffer:
            return Stage.IDLE
        self._searched = max(0, len(buffer) - len(_END) + 1)
        beginning = _BEGINNING.match(buffer)
        if beginning is None or (beginning.end() < len(buffer) and buffer[beginning.end()] != 32):
            raise Fault(400, "This is not HTTP: TLS, for one, ends at a proxy in front.")
        newline = buffer.find(b"\n", 2)
        if newline < 0 and len(buffer) > self._limits.line + 2:
            raise Fault(414, "The first line of the request is too long.")
        if newline >= 0 and _FIRST_LINE.fullmatch(buffer, 0, newline) is None:
            raise Fault(400, "The first line of the request is malformed.")
        if len(buffer) > self._limits.head:
            raise Fault(431, "The head of the request is too large.")
        if buffer.count(b"\n") != buffer.count(b"\r\n"):
            raise Fault(400, "A line of the head does not end with CRLF.")
        return Stage.HEAD

    def _read_framing(self, head: bytes) -> None:
        fields = _FRAMING.findall(head)
        if len(fields) > 1:
            raise Fault(400, "Content-Length and Transfer-Encoding leave the body's end open.")
        for name, value in fields:
            if name.lower() == b"content-length":
                digits = _DIGITS.fullmatch(value)
                if digits is None:
                    raise Fault(400, "The Content-Length is not a number.")
                if len(digits[1]) > _MOST_DIGITS or int(digits[1]) > self._limits.body:
                    raise too_large(self._limits.body)
                self._missing = int(digits[1])
            elif value.lower() != b"chunked":
                raise Fault(400, "The Transfer-Encoding is not chunked.")
            else:
                self._chunks = Chunks(self._limits.body)
            self.asks = _EXPECTS.match(head) is not None

    def _look_at_chunks(self, chunks: Chunks) -> Stage:
        # The body's bytes leave the buffer as they are understood; the head stays in front.
        if not chunks.complete:
            tail = self.buffer[self._end :]
            self.body += chunks.decode(tail)
            self.buffer[self._end :] = tail
        large = len(self.body) > self._limits.gathered
        return Stage.READY if chunks.complete or large else Stage.BODY
