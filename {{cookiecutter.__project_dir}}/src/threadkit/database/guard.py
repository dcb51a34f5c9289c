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
- Commit looks at the scope before it begins, and then has until ``GRACE`` after the scope's
  end. Whoever cannot tell what became of it raises ``OutcomeUnknown`` and drops the
  connection; a commit is never interrupted half way and reported as a time-out.
"""

from __future__ import annotations

import threading
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from threadkit.concurrency import Cancelled, current_scope

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from threadkit.database.dialect import Dialect

GRACE: Final = 1.0
"""Seconds that the server has to confirm the end of a query, or to finish a clean-up."""

TICK: Final = 0.05
"""Seconds after which a waiting thread looks at its scope again."""


class Tally:
    """How often things happened that should be rare. Thread-safe."""

    def __init__(self) -> None:
        # Guards the counts.
        self._lock = threading.Lock()
        self._counts = {"connects": 0, "invalidations": 0, "cancelled": 0, "dropped": 0}

    def count(self, name: str) -> None:
        """One more of ``name``.

        ``cancelled``: queries that were stopped. ``dropped``: connections whose server did not
        say that it had. ``connects`` and ``invalidations``: how connections come and go.
        """
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1

    def counts(self) -> dict[str, int]:
        """All of them."""
        with self._lock:
            return dict(self._counts)


def guard(engine: Engine, dialect: Dialect, tally: Tally) -> None:
    """Have ``engine`` connect by ``dialect``'s guarded connections, and keep its pool on a drop."""

    def connect(
        _dialect: object, _record: object, arguments: MutableSequence[Any], options: dict[str, Any]
    ) -> DBAPIConnection:
        connection = dialect.connect(arguments, options, tally)
        tally.count("connects")
        return connection

    def invalidated(_connection: object, _record: object, _error: object) -> None:
        tally.count("invalidations")

    def translate(context: ExceptionContext) -> BaseException | None:
        # One connection that ends says nothing about the others: each is looked at when it
        # leaves the pool.
        context.invalidate_pool_on_disconnect = False
        if isinstance(context.original_exception, Cancelled):
            # SQLAlchemy takes any TimeoutError for the end of the connection. The guard knows
            # better, and a connection that it has dropped is found out by ``alive``.
            context.is_disconnect = False
            return None
        scope = current_scope()
        if scope is not None and scope.over and dialect.interrupted(context.original_exception):
            return scope.error()
        return None

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "invalidate", invalidated)
    event.listen(engine, "handle_error", translate, retval=True)
