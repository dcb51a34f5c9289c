"""What differs between database servers, behind one interface; one file a server.

The rest of the room speaks SQLAlchemy and asks a ``Dialect`` for what SQLAlchemy leaves to
the driver: how to connect with limits, how to end a query with its request, and what an error
means.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from threadkit.settings import Settings

if TYPE_CHECKING:
    from threadkit.database.guard import Tally


class Fault(enum.Enum):
    """What a driver's error means to a service."""

    AWAY = "away"
    """The server cannot be reached, refuses more work, or the connection is gone."""
    REFUSED = "refused"
    """The server is there and does not let us in: user, password, rights or database."""
    TIMEOUT = "timeout"
    """The server stopped the statement at its own limit."""
    LOCKED = "locked"
    """Someone else held a lock for longer than a statement may wait."""
    CONFLICT = "conflict"
    """A deadlock or a serialisation failure: the transaction is undone and may run again."""
    FULL = "full"
    """No room is left where the server writes; looking may still work."""
    MISSING = "missing"
    """A table or column does not exist: the schema is behind, or the code is wrong."""


MIGRATION_PATIENCE = 300
"""Seconds to wait for another instance that migrates."""


class MigrationsRunning(Exception):
    """Another instance has been migrating for longer than anybody waits."""

    def __init__(self) -> None:
        super().__init__(
            f"another instance has been migrating this database for {MIGRATION_PATIENCE} s. "
            "Look after it, then run it again."
        )


WARM = 0.01
"""Seconds for which an idle connection is believed not to have been ended by the server: a
look at its socket gives the interpreter away, which under load is dearer than the look."""


class Dialect(Protocol):
    """One kind of server. Stateless, so any thread may use it."""

    name: str

    def engine_options(self, settings: Settings, application_name: str) -> dict[str, Any]:
        """Arguments for ``create_engine``: limits that the server itself keeps."""

    def prepare(self, engine: Engine, *, autocommit: bool) -> None:
        """Attach what every connection needs to work at all, also one that migrates.

        ``autocommit``: each statement of this engine commits by itself.
        """

    def limit(self, engine: Engine, settings: Settings) -> None:
        """Attach the limits that do not fit into ``engine_options``."""

    def connect(
        self, arguments: Sequence[Any], options: Mapping[str, Any], tally: Tally
    ) -> DBAPIConnection:
        """Open a guarded connection (see ``guard``), no longer than the current scope lasts."""

    def alive(self, connection: DBAPIConnection, idle: float) -> bool:
        """Whether a connection that was ``idle`` for so long looks whole. Must not block.

        No round trip. False also for one that the guard has dropped.
        """

    def interrupted(self, error: BaseException) -> bool:
        """Whether this is what the driver raises for a query that the guard has stopped.

        For drivers whose waits cannot raise the scope's own error; it is then raised instead.
        """

    def demoted(self, error: BaseException, connection: DBAPIConnection) -> bool:
        """Whether the server refused a change since it is a standby now, after a failover.

        Its connections never serve a change again; a new one may reach the new primary.
        """

    def fault(self, error: DBAPIError) -> Fault | None:
        """What this error means, or None where it is the statement's own."""

    def migration(self, url: str, *, patience: int) -> AbstractContextManager[Connection]:
        """A connection to migrate with, while no other instance does; commits at the end.

        ``patience``: seconds that each statement may wait for a table in use.
        ``MigrationsRunning`` where another instance does not come to an end.
        """


def dialect_for(url: str) -> Dialect:
    """The dialect of a database address as ``Settings`` normalises it."""
    backend = url.partition("://")[0].partition("+")[0]
    if backend == "sqlite":
        from threadkit.database.sqlite import SQLite

        return SQLite()
    if backend == "postgresql":
        from threadkit.database.postgresql import PostgreSQL

        return PostgreSQL()
    from threadkit.database.mysql import MySQL

    return MySQL()
