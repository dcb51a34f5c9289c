"""Clients that a library would not be: they send half a request, or nothing, or garbage."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One HTTP answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def connect(port: int, seconds: float = 10.0) -> socket.socket:
    """A connection on which nothing was said yet."""
    return socket.create_connection(("127.0.0.1", port), seconds)


def silent(stack: ExitStack, port: int, count: int, said: bytes = b"") -> list[socket.socket]:
    """Connections that say this much and then nothing; they close with ``stack``."""
    connections = []
    for _ in range(count):
        connection = stack.enter_context(connect(port))
        if said:
            connection.sendall(said)
        connections.append(connection)
    return connections


def read_answer(stream: socket.SocketIO | Any) -> Answer | None:
    """One answer from ``socket.makefile('rb')``; None where the connection has ended."""
    first = stream.readline()
    if not first:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    status = int(first.split()[1])
    if status in (100, 204):
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return Answer(status, headers, body)
    length = headers.get("content-length")
    return Answer(status, headers, stream.read(int(length)) if length else stream.read())


def ask(port: int, request: bytes, seconds: float = 10.0) -> Answer | None:
    """What comes back first for these bytes."""
    with connect(port, seconds) as connection, connection.makefile("rb") as stream:
        connection.sendall(request)
        return read_answer(stream)
