"""The small server of the admin address: one accepting thread and a few short-lived ones.

It must answer when the service is at its worst, so nothing that a client does holds more
than that client's own connection: heads are gathered without a thread, a silent or slow
client is dropped after ``patience``, and the last places are kept for the probes.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from threadkit import listeners
from threadkit.admin import neighbours
from threadkit.admin.exchange import PROMPT, Exchange, close, refusal
from threadkit.profiling.switching import SWITCHING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = structlog.get_logger("threadkit.admin")

PATIENCE: Final = 5.0
"""Seconds that a client has to send its request, and again to read the answer."""

PLACES: Final[Mapping[str, int]] = {"/livez": 9, "/readyz": 8}
_OTHER_PLACES: Final = 6
"""Exchanges at once up to which a path is still served. The probes' exceed the others', so
that six profiles or scrapes in progress leave them room, also beside a probe that has just
been answered and whose thread is still leaving; no more than 9 threads in all."""

_LEAVE: Final = 0.25
"""Seconds that a closing server still listens to clients which have connected already."""

_MOST_WAITING: Final = 64
_LARGEST_HEAD: Final = 32 * 1024


@dataclass(slots=True, eq=False)
class _Waiting:
    """A connection whose request has not arrived completely."""

    connection: socket.socket
    peer: Any
    until: float
    head: bytearray = field(default_factory=bytearray)


class AdminServer:
    """Serves ``app`` on a listening socket that others bound; a resource of the runtime.

    The socket is shared by all workers and stays open at ``close``; a second one, a unix
    socket, is this worker's own, for its neighbours. Without the first (a script, a test
    client) there is nothing to serve and nothing is started.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        listener: Callable[[], socket.socket | None] = listeners.admin,
        own_listener: Callable[[], socket.socket | None] = neighbours.listen,
        patience: float = PATIENCE,
    ) -> None:
        self._app = app
        self._find_listener = listener
        self._make_own = own_listener
        self._patience = patience
        self._own: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._wake: int | None = None
        # Touched by the accepting thread alone, and by close() once that thread is joined.
        self._exchanges: list[Exchange] = []
        self._waiting: dict[socket.socket, _Waiting] = {}

    def __repr__(self) -> str:
        state = "serving" if self._thread is not None else "not serving"
        return f"<AdminServer {state}, {len(self._exchanges)} exchanges>"

    def start(self) -> None:
        """Start to accept, in this process."""
        listener = self._find_listener()
        if listener is None:
            return
        listener.setblocking(False)
        self._own = self._make_own()
        stopped, self._wake = os.pipe()
        self._thread = threading.Thread(
            # daemon is the net for a process that ends without closing; close() joins.
            target=self._run,
            args=([listener, self._own] if self._own is not None else [listener], stopped),
            name="admin",
            daemon=True,
        )
        self._thread.start()

    def abandon(self) -> None:
        """Forget the parent's thread; its descriptors are copies, so closing them is safe."""
        if self._wake is not None:
            os.close(self._wake)
        if self._own is not None:
            self._own.close()
        self._thread = self._wake = self._own = None
        self._exchanges, self._waiting = [], {}

    def close(self) -> None:
        """Stop accepting, let running exchanges end, then end them; join every thread."""
        thread, self._thread = self._thread, None
        wake, self._wake = self._wake, None
        if thread is None or wake is None:
            return
        os.close(wake)  # readable at the other end: end of file
        thread.join(self._patience + _LEAVE)
        if self._own is not None:
            neighbours.silence(self._own)
            self._own = None
        until = time.monotonic() + self._patience
        for exchange in self._exchanges:
            exchange.join(max(0.0, until - time.monotonic() - self._patience / 2))
            exchange.interrupt()
        for exchange in self._exchanges:
            exchange.join(max(0.0, until - time.monotonic()))
        left = [t.name for t in (thread, *self._exchanges) if t.is_alive()]
        self._exchanges = []
        if left:
            msg = f"threads of the admin address did not end: {', '.join(left)}"
            raise RuntimeError(msg)

    def _run(self, listening: list[socket.socket], stopped: int) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                for each in listening:
                    selector.register(each, selectors.EVENT_READ)
                selector.register(stopped, selectors.EVENT_READ)
                self._serve(selector, listening, stopped)
        except Exception:
            log.exception("the admin address of this worker stopped serving")
        finally:
            for connection in self._waiting:
                connection.close()
            self._waiting.clear()
            os.close(stopped)

    def _serve(
        self, selector: selectors.BaseSelector, listening: list[socket.socket], stopped: int
    ) -> None:
        until: float | None = None  # set once close() has been called
        while until is None or (self._waiting and time.monotonic() < until):
            ready = selector.select(self._until_next_drop(until))
            with SWITCHING.at_most(PROMPT):
                for key, _ in ready:
                    if key.fileobj == stopped:
                        # Whoever has connected may be about to ask: a probe that a leaving
                        # worker has accepted must not fail because another one takes over.
                        until = time.monotonic() + _LEAVE
                        selector.unregister(stopped)
                        for each in listening:
                            selector.unregister(each)
                    elif key.fileobj in listening:
                        if until is None:
                            self._accept(selector, key.fileobj)
                    elif (waiting := self._waiting.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                        self._read(selector, waiting)
            now = time.monotonic()
            for late in [w for w in self._waiting.values() if w.until <= now]:
                self._drop(selector, late)

    def _until_next_drop(self, until: float | None) -> float | None:
        # All have the same patience, so the first that came is the first to go.
        first = next(iter(self._waiting.values()), None)
        if first is None:
            return None
        soonest = first.until if until is None else min(first.until, until)
        return max(0.0, soonest - time.monotonic())

    def _accept(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._drop(selector, next(iter(self._waiting.values())))
        try:
            connection, peer = listener.accept()
        except BlockingIOError:
            return  # another worker was faster
        except OSError as error:
            # Out of descriptors or memory: the connection stays in the backlog and the
            # listener readable, so without a pause this would take a core.
            log.warning("cannot accept on the admin address", error=str(error))
            threading.Event().wait(0.1)
            return
        connection.setblocking(False)
        waiting = _Waiting(connection, peer, time.monotonic() + self._patience)
        self._waiting[connection] = waiting
        selector.register(connection, selectors.EVENT_READ)

    def _read(self, selector: selectors.BaseSelector, waiting: _Waiting) -> None:
        try:
            data = waiting.connection.recv(16 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        waiting.head += data
        if not data:
            self._drop(selector, waiting)
        elif b"\r\n\r\n" in waiting.head or b"\n\n" in waiting.head:
            self._forget(selector, waiting)
            self._dispatch(waiting)
        elif len(waiting.head) > _LARGEST_HEAD:
            _refuse(waiting, 431, "Request Header Fields Too Large", "The head is too large.")
            self._drop(selector, waiting)

    def _dispatch(self, waiting: _Waiting) -> None:
        head = bytes(waiting.head)
        path = [*head.split(b" ", 2), b"", b""][1].partition(b"?")[0].decode("latin-1")
        self._exchanges = [exchange for exchange in self._exchanges if exchange.is_alive()]
        exchange = Exchange(self._app, waiting.connection, waiting.peer, head, self._patience)
        if len(self._exchanges) < PLACES.get(path, _OTHER_PLACES):
            with contextlib.suppress(RuntimeError):  # no thread to be had
                exchange.start()
                self._exchanges.append(exchange)
                return
        _refuse(waiting, 503, "Service Unavailable", "The admin address is busy.")
        close(waiting.connection)

    def _forget(self, selector: selectors.BaseSelector, waiting: _Waiting) -> None:
        selector.unregister(waiting.connection)
        del self._waiting[waiting.connection]

    def _drop(self, selector: selectors.BaseSelector, waiting: _Waiting) -> None:
        self._forget(selector, waiting)
        close(waiting.connection)


def _refuse(waiting: _Waiting, status: int, title: str, detail: str) -> None:
    with contextlib.suppress(OSError):  # a full socket buffer: the client does not read
        waiting.connection.send(refusal(status, title, detail))
