"""The guard: a query ends with the scope that it runs in. Go's counterpart is ``QueryContext``.

Each dialect has a connection class of its own, which looks at the current scope wherever the
driver waits; this file is what they share, and what ties them to SQLAlchemy.

The rules that every guarded connection keeps:

- A query that its scope outlives behaves as without a guard. One whose scope is over raises
  ``DeadlineExceeded`` or ``Cancelled``, at once if it had not begun.
- The server is asked to stop a running query, and has ``GRACE`` to say that it did. Then the
  connection is usable again; if it does not answer, the connection is dropped. Nothing that
  was sent for one query may ever reach another.
- Rollback and clean-up do not look at the scope, which is over by then, and take ``GRACE`` at
  most. What cannot be rolled back in time is dropped: the server rolls back by itself.
- A deadline that passes while the database is away is the database's: ``DatabaseSilent``. A
  query alone cannot tell a slow server from one that was out of reach until a moment ago. So
  it counts whether any connection met silence while the scope lasted.
- Commit looks at the scope before it begins, and then has until ``GRACE`` after the scope's
  end. Whoever cannot tell what became of it raises ``OutcomeUnknown`` and drops the
  connection; a commit is never interrupted half way and reported as a time-out.
"""

from __future__ import annotations

import threading
from collections.abc import MutableSequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from threadkit.concurrency import Cancelled, DeadlineExceeded, current_scope, remaining
from threadkit.database.faults import silent

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from threadkit.database.dialect import Dialect

GRACE: Final = 1.0
"""Seconds that the server has to confirm the end of a query, or to finish a clean-up."""

PROMPT: Final = 0.25
"""Seconds within which a server that is there lets us in, or stops a query."""

TICK: Final = 0.05
"""Seconds after which a waiting thread looks at its scope again."""


class Tally:
    """How often things happened that should be rare. Thread-safe."""

    def __init__(self) -> None:
        # Guards the counts.
        self._lock = threading.Lock()
        self._counts = {"connects": 0, "invalidations": 0, "cancelled": 0, "dropped": 0}
        # Written and read whole; the latest wins.
        self._silent_at = float("-inf")

    def count(self, name: str) -> None:
        """One more of ``name``.

        ``cancelled``: queries that were stopped. ``dropped``: connections whose server did not
        say that it had. ``connects`` and ``invalidations``: how connections come and go.
        """
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1

    def silence(self) -> None:
        """The server did not answer in time, just now."""
        self._silent_at = monotonic()

    def silent_since(self, began: float) -> bool:
        """Whether it has kept silent at any time from ``began`` on."""
        return self._silent_at >= began

    def counts(self) -> dict[str, int]:
        """All of them."""
        with self._lock:
            return dict(self._counts)


def guard(engine: Engine, dialect: Dialect, tally: Tally) -> None:
    """Have ``engine`` connect by ``dialect``'s guarded connections, and keep its pool on a drop."""

    def connect(
        _dialect: object, _record: object, arguments: MutableSequence[Any], options: dict[str, Any]
    ) -> DBAPIConnection:
        began, left = monotonic(), remaining()
        try:
            connection = dialect.connect(arguments, options, tally)
        except DeadlineExceeded as error:
            tally.silence()
            raise silent(error) from error
        if left is not None and monotonic() - began > max(PROMPT, left / 2):
            tally.silence()
        tally.count("connects")
        return connection

    def invalidated(_connection: object, _record: object, _error: object) -> None:
        tally.count("invalidations")

    def translate(context: ExceptionContext) -> BaseException | None:
        # One connection that ends says nothing about the others: each is looked at when it
        # leaves the pool.
        context.invalidate_pool_on_disconnect = False
        error, scope = context.original_exception, current_scope()
        if isinstance(error, Cancelled):
            # SQLAlchemy takes any TimeoutError for the end of the connection. The guard knows
            # better, and a connection that it has dropped is found out by ``alive``.
            context.is_disconnect = False
            if scope is not None and tally.silent_since(monotonic() - scope.age):
                return silent(error)
            return None
        if scope is not None and scope.over and dialect.interrupted(error):
            return scope.error()
        connection = context.connection
        if connection is not None and not connection.invalidated and not connection.closed:
            driver: Any = connection.connection.dbapi_connection
            context.is_disconnect = context.is_disconnect or dialect.demoted(error, driver)
        return None

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "invalidate", invalidated)
    event.listen(engine, "handle_error", translate, retval=True)
