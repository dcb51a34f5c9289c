"""SQLite: one file, many readers, one writer at a time.

Write-ahead logging lets readers go on while one connection writes. A transaction takes the
write lock when it begins (``BEGIN IMMEDIATE``): one that begins as a reader and turns into a
writer later is the one that SQLite answers with "database is locked" at once.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from threadkit.database.dialect import MIGRATION_PATIENCE, Fault, MigrationsRunning
from threadkit.database.guard import Tally
from threadkit.database.sqlite_guard import GuardedConnection, is_interrupted
from threadkit.settings import Settings

_AWAY = ("unable to open database file", "disk i/o error", "readonly database")
_FULL = ("database or disk is full",)
_LOCKED = ("database is locked", "database table is locked")
_MISSING = ("no such table", "no such column", "has no column named")


class SQLite:
    """The embedded database."""

    name = "sqlite"

    def engine_options(self, settings: Settings, application_name: str) -> dict[str, Any]:
        """``timeout`` is how long a writer waits for another one at most, in seconds."""
        del application_name
        return {"connect_args": {"timeout": settings.request_timeout, "check_same_thread": False}}

    def prepare(self, engine: Engine, *, autocommit: bool) -> None:
        """Create the file's folder; set up each connection; take over BEGIN from the driver."""
        if engine.url.database and not engine.url.database.startswith("file:"):
            # What stands in the way of it says SQLite itself, when it opens the file.
            with contextlib.suppress(OSError):
                Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _set_up)
        if not autocommit:
            event.listen(engine, "begin", _begin)

    def limit(self, engine: Engine, settings: Settings) -> None:
        """Nothing: the busy time-out is a connect argument."""

    def connect(
        self, arguments: Sequence[Any], options: Mapping[str, Any], tally: Tally
    ) -> DBAPIConnection:
        """By sqlite3 with a guard."""
        connection: Any = GuardedConnection(*arguments, tally=tally, **options)
        return connection  # type: ignore[no-any-return]

    def alive(self, connection: DBAPIConnection, idle: float) -> bool:
        """Always: nobody else can end it."""
        return True

    def interrupted(self, error: BaseException) -> bool:
        """Whether it was ended between two steps."""
        return is_interrupted(error)

    def demoted(self, error: BaseException, connection: DBAPIConnection) -> bool:
        """Never: a file has no standby."""
        return False

    def fault(self, error: DBAPIError) -> Fault | None:
        """SQLite tells its faults apart by their text."""
        text = str(error.orig).lower()
        for fault, words in (
            (Fault.AWAY, _AWAY),
            (Fault.FULL, _FULL),
            (Fault.LOCKED, _LOCKED),
            (Fault.MISSING, _MISSING),
        ):
            if any(word in text for word in words):
                return fault
        return None

    @contextmanager
    def migration(self, url: str, *, patience: int) -> Iterator[Connection]:
        """One transaction for all of it: BEGIN IMMEDIATE is the lock, and DDL rolls back too.

        Foreign keys rest meanwhile and are checked at the end: Alembic copies a table and
        drops the old one, and a drop deletes the rows that refer to it.
        """
        del patience
        engine = create_engine(
            url, poolclass=NullPool, connect_args={"timeout": MIGRATION_PATIENCE}
        )
        self.prepare(engine, autocommit=False)
        event.listen(engine, "connect", _rest_foreign_keys)
        with engine.connect() as connection:
            try:
                connection.begin()
            except OperationalError as error:
                if self.fault(error) is Fault.LOCKED:
                    raise MigrationsRunning from error
                raise
            yield connection
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if orphans:
                msg = f"the migration leaves rows that refer to nothing: {orphans[:5]}"
                raise RuntimeError(msg)
            connection.commit()


def _set_up(connection: DBAPIConnection, _record: object) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # Without this the driver begins transactions itself, deferred, and only before writes.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _rest_foreign_keys(connection: DBAPIConnection, _record: object) -> None:
    connection.cursor().execute("PRAGMA foreign_keys=OFF")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
