"""SQLite's connection, whose statements end with the scope around them.

SQLite runs in the calling thread, so nobody has to be asked to stop: it looks at the scope
every thousand steps of its virtual machine, and gives up by itself. What it does not look at
is its wait for somebody else's lock, so that is taken in ticks.

Python's ``sqlite3`` documents all that this rests on.
"""

from __future__ import annotations

import sqlite3
from time import monotonic
from typing import Any, Final, Self

from threadkit.concurrency import current_scope
from threadkit.database.guard import TICK, Tally

STEPS: Final = 1000
"""Of SQLite's virtual machine between two looks at the scope; some tens of microseconds."""


class GuardedConnection(sqlite3.Connection):
    """A connection that keeps the rules of ``guard``. Used by one thread at a time.

    ``timeout`` is how long a statement waits for somebody else's lock, in seconds, if its scope
    lasts as long.
    """

    def __init__(self, database: str, *, timeout: float, tally: Tally, **options: Any) -> None:
        super().__init__(database, timeout=TICK, **options)
        self.patience = timeout
        # Set while a commit or a rollback runs: it looks at no scope.
        self.finishing = False
        self._tally = tally
        self.set_progress_handler(self._is_over, STEPS)

    def cursor(self, factory: Any = None) -> Any:
        """A cursor whose statements end with the scope."""
        return super().cursor(factory or GuardedCursor)

    def commit(self) -> None:
        """Commit, unless the scope is over; it is all in force then, or nothing of it."""
        if not self.in_transaction:
            return
        if (scope := current_scope()) is not None:
            scope.checkpoint()
        self.finishing = True
        try:
            self.cursor().execute("COMMIT")
        finally:
            self.finishing = False

    def rollback(self) -> None:
        """Roll back, whatever the scope says."""
        self.finishing = True
        try:
            super().rollback()
        finally:
            self.finishing = False

    def _is_over(self) -> bool:
        """True ends the statement with "interrupted"."""
        scope = current_scope()
        if self.finishing or scope is None or not scope.over:
            return False
        self._tally.count("cancelled")
        return True


class GuardedCursor(sqlite3.Cursor):
    """Waits for a lock in ticks: a statement that got none has done nothing, and is repeated."""

    connection: GuardedConnection

    def execute(self, statement: str, parameters: Any = ()) -> Self:
        """Run one statement, unless the scope is over."""
        scope = None if self.connection.finishing else current_scope()
        until: float | None = None
        while True:
            if scope is not None:
                scope.checkpoint()
            try:
                return super().execute(statement, parameters)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                now = monotonic()
                until = until or now + self.connection.patience - TICK
                if now > until:
                    raise


def is_interrupted(error: BaseException) -> bool:
    """Whether this is what a statement raises that the guard has ended."""
    return (
        isinstance(error, sqlite3.OperationalError)
        and error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
    )
