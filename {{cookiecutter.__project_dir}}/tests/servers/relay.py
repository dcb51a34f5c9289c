"""A wire between the service and its database that a test can cut and mend."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """Passes TCP connections on to a port of 127.0.0.1.

    While it is cut, it ends them at once; while it stalls, it takes them and moves no byte, like
    a network that swallows packets.

    One thread moves all bytes; ``with`` starts and joins it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._whole = threading.Event()
        self._whole.set()
        self._stalled = threading.Event()
        self._stopped = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="relay")
        # Each end of a connection, and the other one. Touched by the thread alone.
        self._other: dict[socket.socket, socket.socket] = {}

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    @property
    def connections(self) -> int:
        """How many it holds at present."""
        return len(self._other) // 2

    def lead_to(self, port: int) -> None:
        """Pass connections to come on to another port."""
        self._port = port

    def cut(self) -> None:
        """End all connections, and those to come."""
        self._whole.clear()

    def stall(self) -> None:
        """Move no byte any more, and end nothing."""
        self._stalled.set()

    def mend(self) -> None:
        """Pass connections on again, and what has been held up."""
        self._whole.set()
        self._stalled.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(10)
        for end in self._other:
            end.close()
        self._selector.close()
        self._server.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._stalled.is_set() and self._whole.is_set():
                self._stopped.wait(0.02)
                continue
            ready = self._selector.select(0.02)
            if not self._whole.is_set():
                for end in list(self._other):
                    self._end(end)
            for key, _ in ready:
                if key.fileobj is self._server:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._other:
                    self._pass(key.fileobj)

    def _accept(self) -> None:
        near, _ = self._server.accept()
        if not self._whole.is_set():
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._port), 5)
        except OSError:  # who listens there is gone; so is its connection
            near.close()
            return
        self._other[near], self._other[far] = far, near
        for end in (near, far):
            self._selector.register(end, selectors.EVENT_READ)

    def _pass(self, end: socket.socket) -> None:
        try:
            data = end.recv(65_536)
            self._other[end].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._end(end)

    def _end(self, end: socket.socket) -> None:
        other = self._other.pop(end, None)
        if other is None:
            return
        del self._other[other]
        for one in (end, other):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()
