"""From a driver's error to the service's own: what the caller should be told, and when to retry."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from threadkit.concurrency import Cancelled, DeadlineExceeded
from threadkit.database.dialect import Dialect, Fault
from threadkit.database_url import without_password
from threadkit.errors import Unavailable

_LONGEST = 300
"""Characters of a driver's sentence."""
_QUOTED = re.compile(r'"[^"]*"|(?<!\w)\'[^\']*\'(?:@\'[^\']*\')?')


class PoolExhausted(Unavailable):
    """No connection became free within ``DATABASE_POOL_TIMEOUT``."""

    def __init__(self) -> None:
        super().__init__("No database connection became free in time.")


class PoolExpired(PoolExhausted, DeadlineExceeded):
    """The deadline passed in the line for a connection: both errors at once, as both are true.

    A scope recognises its own deadline; the edge asks for a ``ServiceError`` first and answers
    that the same request may succeed soon.
    """

    def __init__(self, error: Cancelled) -> None:
        PoolExhausted.__init__(self)
        self.reason = f"no database connection became free; {error.reason}"
        self.scope = error.scope


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


def silent(error: Cancelled) -> Cancelled:
    """The scope's error where it waited for a database that did not answer."""
    if isinstance(error, DeadlineExceeded) and not isinstance(error, DatabaseAway):
        return DatabaseSilent(error)
    return error


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


class TransactionConflict(Unavailable):
    """Two transactions were in each other's way, and the server has undone this one.

    ``transaction(retries=n).run(work)`` tries again by itself.
    """


class SchemaBehind(Unavailable):
    """The database has not got the tables that this code needs."""


_UNAVAILABLE: dict[Fault | None, tuple[type[Unavailable], str, int]] = {
    Fault.AWAY: (DatabaseAway, "The database is away.", 2),
    Fault.REFUSED: (DatabaseAway, "The database does not let the service in.", 10),
    Fault.FULL: (DatabaseFull, "The database has no room left on its disk.", 10),
    Fault.CONFLICT: (
        TransactionConflict,
        "The change met another one at the same time. Try again.",
        1,
    ),
    Fault.LOCKED: (DatabaseLocked, "The database is busy with another writer.", 1),
}


def translation(
    error: BaseException, dialect: Dialect, schema_fault: Callable[[], str | None]
) -> Exception | None:
    """The service's own error for what went wrong, or None: it stays as it is.

    ``schema_fault`` tells why the schema does not fit, or None where it does: then a missing
    table is a mistake in the code, and must not look like one of operations.
    """
    if not isinstance(error, DBAPIError):
        return None
    fault = dialect.fault(error)
    if fault is Fault.TIMEOUT:
        return DeadlineExceeded("the database stopped the statement at DATABASE_STATEMENT_TIMEOUT")
    if fault is Fault.MISSING and (reason := schema_fault()):
        return SchemaBehind(reason, retry_after=10)
    if fault not in _UNAVAILABLE:
        return None
    kind, detail, retry_after = _UNAVAILABLE[fault]
    return kind(detail, retry_after=retry_after)


def sentence(error: DBAPIError, url: str) -> str:
    """What the driver says, in one line and without the password; for operators."""
    original = error.orig
    arguments = original.args if original is not None else ()
    # PyMySQL's errors are a number and a text, the others' one text of several lines.
    text = str(arguments[-1]) if arguments else type(original).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else type(original).__name__
    return without_password(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…", url)


def without_names(line: str) -> str:
    """The same for callers, to whom hosts and users are no business: what is quoted is left out."""
    return _QUOTED.sub("…", line)
