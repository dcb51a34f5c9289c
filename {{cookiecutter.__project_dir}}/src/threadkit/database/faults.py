"""From a driver's error to the service's own: what the caller should be told, and when to retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from threadkit.concurrency import Cancelled, DeadlineExceeded
from threadkit.database.dialect import Dialect, Fault
from threadkit.database_url import without_password
from threadkit.errors import Unavailable

_LONGEST = 300
"""Characters of a driver's sentence."""


class PoolExhausted(Unavailable):
    """No connection became free within ``DATABASE_POOL_TIMEOUT``."""


class DatabaseAway(Unavailable):
    """The database cannot be reached, or broke off."""


class DatabaseSilent(DatabaseAway, DeadlineExceeded):
    """The deadline passed, and the database did not answer to a request to stop either.

    Both errors at once, because both are true: a scope recognises its own deadline, and the
    edge, which asks for a ``ServiceError`` first, answers that the database is away.
    """

    def __init__(self, error: Cancelled) -> None:
        DatabaseAway.__init__(self, "The database does not answer.", retry_after=2)
        self.reason = f"the database does not answer; {error.reason}"
        self.scope = error.scope


class OutcomeUnknown(Unavailable):
    """The connection was lost while it committed: the change may be in force, or not at all.

    Never half of it. Look before you repeat what is not safe to do twice.
    """

    def __init__(self) -> None:
        super().__init__(
            "The database did not confirm the change: it may be saved, or not at all. "
            "Look at the present state before you repeat it.",
            retry_after=2,
        )


class DatabaseLocked(Unavailable):
    """Someone else held a lock for too long."""


class DatabaseFull(Unavailable):
    """The database has no room left for what should be written."""


class SchemaBehind(Unavailable):
    """The database has not got the tables that this code needs."""


@contextmanager
def translated(dialect: Dialect, schema_fault: Callable[[], str | None]) -> Iterator[None]:
    """Raise what goes wrong inside as the service's own errors; the rest stays as it is.

    ``schema_fault`` tells why the schema does not fit, or None where it does: then a missing
    table is a mistake in the code, and must not look like one of operations.
    """
    try:
        yield
    except PoolTimeoutError as error:
        msg = "No database connection became free in time."
        raise PoolExhausted(msg) from error
    except DBAPIError as error:
        match dialect.fault(error):
            case Fault.AWAY:
                msg = "The database is away."
                raise DatabaseAway(msg, retry_after=2) from error
            case Fault.REFUSED:
                msg = "The database does not let the service in."
                raise DatabaseAway(msg, retry_after=10) from error
            case Fault.FULL:
                msg = "The database has no room left on its disk."
                raise DatabaseFull(msg, retry_after=10) from error
            case Fault.LOCKED:
                msg = "The database is busy with another writer."
                raise DatabaseLocked(msg) from error
            case Fault.TIMEOUT:
                msg = "the database stopped the statement at DATABASE_STATEMENT_TIMEOUT"
                raise DeadlineExceeded(msg) from error
            case Fault.MISSING if reason := schema_fault():
                raise SchemaBehind(reason, retry_after=10) from error
            case _:
                raise


def sentence(error: DBAPIError, url: str) -> str:
    """What the driver says, in one line and without the password; for operators."""
    original = error.orig
    arguments = original.args if original is not None else ()
    # PyMySQL's errors are a number and a text, the others' one text of several lines.
    text = str(arguments[-1]) if arguments else type(original).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else type(original).__name__
    return without_password(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…", url)
