"""The pool: so many connections and no more, first come first served, for as long as there is time.

SQLAlchemy's own pool wakes a waiting thread and lets whoever is quicker have the connection, so
under load a thread can wait for seconds while another one never does. Here a connection goes
from hand to hand: whoever leaves gives it to the first in line. Go's counterpart is the list of
``connRequests`` in ``database/sql``.

    create_engine(url, poolclass=FairPool, pool_size=8, pool_timeout=1.0, alive=dialect.alive)

Rests on these names of SQLAlchemy's, which a contract test pins: ``Pool._do_get``,
``_do_return_conn`` and ``_create_connection``, which every pool class overrides or calls, and
the constructor's arguments that ``recreate`` has to pass on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from threadkit.concurrency import Cancelled, DeadlineExceeded, current_scope
from threadkit.concurrency._parking import Parker
from threadkit.concurrency.scope import park
from threadkit.concurrency.timeline import Span
from threadkit.database.faults import PoolExhausted, PoolExpired
from threadkit.database.lease import Lease


class _Waiter:
    """One thread in line. The rest is guarded by the pool's lock."""

    __slots__ = ("granted", "parker", "record")

    def __init__(self) -> None:
        self.parker = Parker()
        self.granted = False
        self.record: ConnectionPoolEntry | None = None
        """The connection; None with ``granted``: a place to make one."""


class FairPool(Pool):
    """At most ``pool_size`` connections. Thread-safe; belongs to one process.

    ``connect`` waits ``min(timeout, remaining())`` seconds, then raises ``PoolExhausted``, which
    is also ``DeadlineExceeded`` where it was the scope's time; ``Cancelled`` as soon as the scope
    is cancelled. A connection that ``alive`` finds dead, told for how long it
    was idle, is replaced on its way out.
    """

    def __init__(
        self,
        creator: Any,
        pool_size: int = 5,
        timeout: float = 30.0,
        alive: Callable[[DBAPIConnection, float], bool] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(creator, **options)
        self._size = pool_size
        self._timeout = timeout
        self._alive = alive or _unknown
        # Guards all below. Re-entrant, because a connection that somebody forgot comes back
        # from the garbage collector, which may run in the middle of anything, also here.
        self._lock = threading.RLock()
        # Each with the time when it came back.
        self._idle: deque[tuple[ConnectionPoolEntry, float]] = deque()
        self._line: deque[_Waiter] = deque()
        self._open = 0
        self._disposed = False
        self._waits = self._exhausted = 0
        self._waited = 0.0

    def connect(self) -> PoolProxiedConnection:
        """Lend a connection. Who listens to how they come and go gets SQLAlchemy's own loans."""
        events = self.dispatch
        if events.checkout or events.checkin or events.reset:
            return super().connect()
        return Lease(self, self._do_get())

    def _do_get(self) -> ConnectionPoolEntry:
        scope = current_scope()
        if scope is not None:
            scope.checkpoint()
        record, since = self._reserve()
        if record is None:
            return self._create()
        connection = record.dbapi_connection
        if connection is not None and not self._alive(connection, monotonic() - since):
            record.invalidate()
        return record

    def _reserve(self) -> tuple[ConnectionPoolEntry | None, float]:
        """A connection and since when it is idle; or None, a place to make one."""
        with self._lock:
            # Where somebody is in line, nothing is free. The last one back goes out first: it
            # is warm.
            if self._idle:
                return self._idle.pop()
            if self._open < self._size:
                self._open += 1
                return None, 0.0
            waiter = _Waiter()
            self._line.append(waiter)
            # The collector may have brought a connection back since we looked.
            self._serve()
        self._wait(waiter)
        return waiter.record, monotonic()  # from hand to hand

    def _serve(self) -> None:
        """Under the lock: give what is free to those in line."""
        while self._line and (self._idle or self._open < self._size):
            waiter = self._line.popleft()
            if self._idle:
                waiter.record, _ = self._idle.pop()
            else:
                self._open += 1
            waiter.granted = True
            waiter.parker.unpark()

    def _wait(self, waiter: _Waiter) -> None:
        began = monotonic()
        end = began + self._timeout
        error: Cancelled | None = None
        done = False
        try:
            with Span("wait", "a database connection"):
                while not waiter.granted:
                    scope = current_scope()
                    if scope is not None and scope.over:
                        error = scope.error()
                        break
                    left = end - monotonic()
                    if left <= 0:
                        break
                    park(waiter.parker, left)
            done = True
        finally:
            with self._lock:
                self._waits += 1
                self._waited += monotonic() - began
                granted = waiter.granted
                if not granted:
                    self._line.remove(waiter)
                    self._exhausted += not isinstance(error, Cancelled)
                elif not done:  # a KeyboardInterrupt took the thread out of here
                    self._hand_back(waiter.record)
        if granted:
            return
        if isinstance(error, DeadlineExceeded):
            raise PoolExpired(error)
        if error is not None:
            raise error
        raise PoolExhausted

    def _hand_back(self, record: ConnectionPoolEntry | None) -> None:
        """Under the lock: a connection, or (None) a place for one, is free again."""
        if record is None:
            self._open -= 1
        else:
            self._idle.append((record, monotonic()))
        self._serve()

    def _create(self) -> ConnectionPoolEntry:
        try:
            return self._create_connection()
        except BaseException:
            with self._lock:
                self._hand_back(None)  # the next in line tries for itself
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        with self._lock:
            if not self._disposed:
                self._hand_back(record)
                return
        record.close()

    def recreate(self) -> FairPool:
        """A new pool like this one; SQLAlchemy's ``Engine.dispose`` asks for it."""
        return type(self)(
            self._creator,
            pool_size=self._size,
            timeout=self._timeout,
            alive=self._alive,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            pre_ping=self._pre_ping,
            dialect=self._dialect,
            _dispatch=self.dispatch,
        )

    def dispose(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        with self._lock:
            self._disposed = True
            idle = list(self._idle)
            self._idle.clear()
        for record, _ in idle:
            record.close()

    def stats(self) -> Mapping[str, float]:
        """Connections ``in_use``, ``idle`` and at most (``size``), threads ``waiting``; totals."""
        with self._lock:
            idle = len(self._idle)
            return {
                "in_use": self._open - idle,
                "idle": idle,
                "size": self._size,
                "waiting": len(self._line),
                "waits": self._waits,
                "wait_seconds": self._waited,
                "exhausted": self._exhausted,
            }

    def status(self) -> str:
        """For people."""
        return ", ".join(f"{key} {value:g}" for key, value in self.stats().items())


def _unknown(_connection: DBAPIConnection, _idle: float) -> bool:
    return True
