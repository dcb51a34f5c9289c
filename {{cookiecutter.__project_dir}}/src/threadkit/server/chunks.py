"""A chunked body, taken apart as it comes in (RFC 9112, section 7.1), and nothing but that.

Two programs that read one message differently are how requests are smuggled, so there is no
leniency: sizes are hexadecimal digits, every line ends with CRLF, an extension has the grammar
that it should have, a trailer is a header field.

    chunks = Chunks(limit=1024)
    body += chunks.decode(buffer)     # takes from the front what it has understood
    chunks.complete                   # and leaves what belongs to the next request
"""

from __future__ import annotations

import re
from typing import Final

from threadkit.server.faults import Fault, too_large

_LINE: Final = 1024
"""Longest line of a chunk's size and its extension, and longest trailer, in bytes."""
_TRAILERS: Final = 32

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*"
    + _TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + _TOKEN
    + rb"|"
    + _QUOTED
    + rb"))?)*"
)
_TRAILER: Final = re.compile(_TOKEN + rb":[\t -~\x80-\xff]*")


class Chunks:
    """The state between two pieces of one body; one thread at a time."""

    __slots__ = ("_left", "_limit", "_size", "_trailers", "complete")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        # Bytes that the chunk still has, its CRLF included; 0: a size line comes next.
        self._left = 0
        self._trailers = -1
        self.complete = False

    def decode(self, buffer: bytearray) -> bytes:
        """The body's bytes at the front of ``buffer``, from which all that was understood goes.

        Raises ``Fault``: 400 where it is not chunks, 413 where they are more than ``limit``.
        """
        pieces = []
        while not self.complete:
            if self._left > 2:
                piece = bytes(buffer[: self._left - 2])
                del buffer[: len(piece)]
                self._left -= len(piece)
                pieces.append(piece)
                if self._left > 2:
                    break
            if self._left == 2:
                if len(buffer) < 2:
                    break
                if buffer[:2] != b"\r\n":
                    raise Fault(400, "A chunk of the body is longer than it says.")
                del buffer[:2]
                self._left = 0
            line = _take_line(buffer)
            if line is None:
                break
            self._read(line)
        return b"".join(pieces)

    def _read(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._read_trailer(line)
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Fault(400, "The size of a chunk is malformed.")
        length = int(size[1], 16)
        if length == 0:
            self._trailers = 0
            return
        self._size += length
        if self._size > self._limit:
            raise too_large(self._limit)
        self._left = length + 2

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
            return
        self._trailers += 1
        if self._trailers > _TRAILERS or _TRAILER.fullmatch(line) is None:
            raise Fault(400, "The trailer of the body is malformed.")


def _take_line(buffer: bytearray) -> bytes | None:
    end = buffer.find(b"\n", 0, _LINE + 2)
    if end < 0:
        if len(buffer) > _LINE:
            raise Fault(400, "A line between the chunks of the body is too long.")
        return None
    line = bytes(buffer[: end + 1])
    if not line.endswith(b"\r\n"):
        raise Fault(400, "A line between the chunks of the body does not end with CRLF.")
    del buffer[: end + 1]
    return line[:-2]
