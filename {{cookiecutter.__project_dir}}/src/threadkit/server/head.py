"""gunicorn's parser for the head of a request, apart from the socket that it came from.

Clients send the same header lines again and again. A line that gunicorn has found to be
well-formed once is so the next time, so a head all of whose lines are known is put together
from what was made of them; every other head goes through the parser, line by line.
"""

from __future__ import annotations

import re
from typing import Any, Final

from threadkit.server.gunicorn_names import Request

_MOST_LINES: Final = 1024
_LONGEST: Final = 256
"""Lines that are remembered, and bytes of such a line."""

# Fields of which there may be but one.
_ONCE: Final = frozenset({"HOST", "CONTENT-TYPE"})
# Fields whose values repeat and mean nothing to the parser itself. What a trusted proxy may
# say about scheme and address is not among them: that depends on who says it.
_REMEMBERED: Final = re.compile(
    "HOST|CONNECTION|CONTENT-TYPE|ACCEPT(?:-.*)?|USER-AGENT|CACHE-CONTROL|PRAGMA|ORIGIN|DNT"
    "|SEC-.*|UPGRADE-INSECURE-REQUESTS"
)
_FIRST_LINE: Final = re.compile(
    rb"([A-Z]{3,20}) (/[!-\"$->@-~]*)(?:\?([!-\"$-~]*))? HTTP/1\.([01])"
)

_lines: dict[bytes, tuple[str, str]] = {}


class Snapshot:
    """gunicorn's configuration with every value looked up once; it is asked a lot."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cfg, name)
        setattr(self, name, value)
        return value


class _Bytes:
    """What the parser reads from: the head, and then nothing."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int | None = None) -> bytes:
        data, self._data = self._data, b""
        return data

    def unread(self, data: bytes) -> None:
        """Nothing is left over: the head was cut off where it ends."""


class Head(Request):  # type: ignore[misc]
    """A request's head; raises gunicorn's errors where it is malformed.

    The body is not its business: ``wire`` has cut it out. What the parser holds against its
    framing counts all the same.
    """

    def __init__(self, cfg: Any, data: bytes, client: Any, number: int) -> None:
        super().__init__(cfg, _Bytes(data), client, number)
        _remember(data, self.headers)

    def set_body_reader(self) -> None:
        """Only a look at the fields that say how long a body is, where there are any."""
        if any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in self.headers):
            super().set_body_reader()


class KnownHead:
    """A head of which every line was seen before: what the rest of gunicorn asks of a request."""

    __slots__ = ("headers", "method", "path", "query", "scheme", "uri", "version")

    trailers: tuple[()] = ()

    def __init__(self, first: re.Match[bytes], headers: list[tuple[str, str]]) -> None:
        method, path, query, minor = first.groups()
        self.method = method.decode("ascii")
        self.path = path.decode("ascii")
        self.query = query.decode("ascii") if query else ""
        self.uri = self.path if query is None else f"{self.path}?{self.query}"
        self.version = (1, 1 if minor == b"1" else 0)
        self.headers = headers
        self.scheme = "http"

    def should_close(self) -> bool:
        """As gunicorn decides it."""
        if self.method == "CONNECT":
            return True
        for name, value in self.headers:
            if name == "CONNECTION":
                option = value.lower()
                if option == "close":
                    return True
                if option == "keep-alive":
                    return False
                break
        return self.version <= (1, 0)


def parse(cfg: Any, data: bytes, client: Any, number: int) -> Head | KnownHead:
    """The head in ``data``; raises gunicorn's errors where it is malformed."""
    first, *lines = data[:-4].split(b"\r\n")
    if len(first) > cfg.limit_request_line or len(lines) > cfg.limit_request_fields:
        return Head(cfg, data, client, number)
    headers = []
    for line in lines:
        known = _lines.get(line)
        if known is None:
            return Head(cfg, data, client, number)
        headers.append(known)
    match = _FIRST_LINE.fullmatch(first)
    names = [name for name, _ in headers if name in _ONCE]
    if match is None or match[2][:2] == b"//" or len(names) != len(set(names)):
        return Head(cfg, data, client, number)
    return KnownHead(match, headers)


def _remember(data: bytes, headers: list[tuple[str, str]]) -> None:
    if len(_lines) >= _MOST_LINES:
        return
    lines = data[:-4].split(b"\r\n")[1:]
    if len(lines) != len(headers):
        return  # the parser has left something out: which line is which cannot be told
    for line, (name, value) in zip(lines, headers, strict=True):
        said, _, rest = line.partition(b":")
        same = said.decode("latin-1").upper() == name
        same = same and rest.decode("latin-1").strip(" \t") == value
        if same and len(line) <= _LONGEST and _REMEMBERED.fullmatch(name):
            _lines[line] = (name, value)
