"""gunicorn's parser for the head of a request, apart from the socket that it came from.

Clients send the same header lines again and again. A line that gunicorn has found to be
well-formed once is so the next time, so a head all of whose lines are known is put together
from what was made of them; every other head goes through the parser, line by line.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final
from urllib.parse import urlsplit

from threadkit.server.faults import Fault
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

# RFC 3986, section 3.2.2, with a port. An empty one is for targets that have no host.
_HOST: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
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

    headers: list[tuple[str, str]]
    path: str

    def __init__(self, cfg: Any, data: bytes, client: Any, number: int) -> None:
        super().__init__(cfg, _Bytes(data), client, number)
        self._check_host()
        _remember(data, self.headers)
        if not self.uri.startswith("/") and "://" in self.uri:
            self._take_host_of_target()

    def set_body_reader(self) -> None:
        """Only a look at the fields that say how long a body is, where there are any."""
        if any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in self.headers):
            super().set_body_reader()

    def should_close(self) -> bool:
        """As RFC 9112 decides it; gunicorn reads no lists."""
        return self.must_close or _ends(self)

    def _check_host(self) -> None:
        # RFC 9112, section 3.2. The parser has refused a second one.
        host = next((value for name, value in self.headers if name == "HOST"), None)
        if host is None:
            if self.version >= (1, 1):
                raise Fault(400, "HTTP/1.1 asks for a Host; it may be empty.")
        elif _HOST.fullmatch(host) is None:
            raise Fault(400, f"The Host {host[:80]!r} is malformed; send a name, or name:port.")

    def _take_host_of_target(self) -> None:
        # RFC 9112, section 3.2.2: who sends a whole URL means its host, whatever Host says.
        host = urlsplit(self.uri).netloc
        if not host or _HOST.fullmatch(host) is None:
            raise Fault(400, f"The host {host[:80]!r} of the target is malformed.")
        self.headers = [field for field in self.headers if field[0] != "HOST"]
        self.headers.append(("HOST", host))
        self.path = self.path or "/"


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
        """As RFC 9112 decides it."""
        return _ends(self)


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
    if "HOST" not in names and match[4] == b"1":
        return Head(cfg, data, client, number)
    return KnownHead(match, headers)


def _ends(head: Head | KnownHead) -> bool:
    """Whether the connection is over after this request (RFC 9112, section 9.3)."""
    if head.method == "CONNECT":
        return True
    kept = head.version >= (1, 1)
    for name, value in head.headers:
        if name == "CONNECTION":
            options = _options(value)
            if "close" in options:
                return True
            kept = kept or "keep-alive" in options
    return not kept


@functools.lru_cache(maxsize=256)
def _options(value: str) -> frozenset[str]:
    return frozenset(option.strip(" \t") for option in value.lower().split(","))


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
