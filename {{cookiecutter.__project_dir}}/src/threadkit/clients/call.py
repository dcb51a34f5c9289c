"""Ends an outbound call together with its scope, wherever in the exchange it is.

A time-out bounds the connecting and each read, not the call: an upstream that trickles its
answer could hold a request for as long as it liked, and a caller who left was not noticed before
the next read ended. So the end of the scope shuts down the socket that the call uses, which ends
whatever is done with it at once.

    with Call(current_scope()) as call:
        pool.request(...)            # a pool of ``pools``
    call.cut_off                     # what came is not all, though it may look complete

The socket may be somebody else's a moment later: a connection goes back to its pool before the
call has ended. Each connection therefore knows the call that it serves, and only that one cuts it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from threadkit.concurrency import CancelScope, remaining

_thread = threading.local()
"""``call``: the one that runs in this thread."""
_LEAST: Final = 0.001
"""Seconds to connect; 0 would mean not to wait, and not what it seems."""


class Call:
    """One exchange, in the thread that enters it. ``cut_off``: its scope has ended meanwhile."""

    def __init__(self, scope: CancelScope | None) -> None:
        self._scope = scope
        self._unregister: Callable[[], object] | None = None
        # Guards what is below it.
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self.cut_off = False

    def __enter__(self) -> Self:
        _thread.call = self
        if self._scope is not None:
            self._unregister = self._scope.on_cancel(self._cut)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _thread.call = None
        if self._unregister is not None:
            self._unregister()  # and wait for one that is under way

    def uses(self, connection: Connection) -> None:
        """From now on this is what there is to cut; ``OSError`` where it is over already."""
        with self._lock:
            if self.cut_off:
                msg = "the scope of the call has ended"
                raise ConnectionAbortedError(msg)
            self._connection = connection

    def _cut(self) -> None:
        with self._lock:
            self.cut_off = True
            connection = self._connection
        if connection is not None:
            connection.cut(self)


class Connection(HTTPConnection):
    """A pooled connection that knows whose it is."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Guards what is below it; nothing that blocks is done under it.
        self._guard = threading.Lock()
        self._call: Call | None = None
        self._torn = False
        # ``sock`` is None while an answer without a length is read: http.client has let go of it.
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Connect for the call of this thread."""
        self._serve()
        left = remaining()  # less than at the call's beginning, where it waited for a connection
        if left is not None and isinstance(self.timeout, int | float):
            self.timeout = min(self.timeout, max(left, _LEAST))
        super().connect()
        with self._guard:
            torn, self._socket = self._torn, self.sock
        if torn:  # while there was no socket yet
            self.close()
            msg = "the scope of the call has ended"
            raise ConnectionAbortedError(msg)

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request for the call of this thread."""
        self._serve()
        super().request(*args, **options)

    def cut(self, call: Call) -> None:
        """Whoever reads or writes for ``call`` is done; nothing where it serves another one."""
        with self._guard:
            if self._call is not call:
                return
            self._torn = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # closed: its number is nobody's then
                    # Not SSLSocket's own, which takes the encryption off under the reader.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _serve(self) -> None:
        call: Call | None = getattr(_thread, "call", None)
        with self._guard:
            torn, self._torn, self._call = self._torn, False, call
        if torn:  # by a call that had it before, after it went back to the pool
            self.close()
        if call is not None:
            call.uses(self)


class SecureConnection(Connection, HTTPSConnection):
    """The same over TLS. A handshake is not cut: its time-out ends it."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = SecureConnection


def pools(**options: Any) -> PoolManager:
    """urllib3's, of connections that a call can cut."""
    manager = PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def close(manager: PoolManager) -> None:
    """Close what is idle, now: ``clear`` leaves it to the garbage collector, who may be long."""
    keys = manager.pools.keys()
    for key in keys:
        pool = manager.pools.get(key)
        if pool is not None:
            pool.close()
    manager.clear()
