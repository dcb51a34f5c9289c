"""PostgreSQL by psycopg 3: the server's own nets below every request's deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from threadkit.database.dialect import MIGRATION_PATIENCE, WARM, Fault, MigrationsRunning
from threadkit.database.guard import Tally
from threadkit.settings import Settings

# One lock for the migrations of all instances; the number only has to be ours.
_MIGRATION_LOCK = 0x7468_7265_6164

# SQLSTATE classes and codes, PostgreSQL documentation, appendix A.
_AWAY_CLASSES = ("08", "57P", "53", "58")
_LOCK_NOT_AVAILABLE = "55P03"
_READ_ONLY = "25006"
_STANDBY = ("in_hot_standby", "default_transaction_read_only")
"""Settings that the server reports by itself when they change."""
_FAULTS = {
    "40001": Fault.CONFLICT,
    "40P01": Fault.CONFLICT,
    "53100": Fault.FULL,
    "57014": Fault.TIMEOUT,
    _LOCK_NOT_AVAILABLE: Fault.LOCKED,
    **dict.fromkeys(("42P01", "42703", "3F000"), Fault.MISSING),
}
# The driver keeps no SQLSTATE of an attempt to connect. A server that speaks another language
# than English only loses a word of help.
_REFUSED = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied for database",
    "is not permitted to log in",
)


class PostgreSQL:
    """A PostgreSQL server."""

    name = "postgresql"

    def engine_options(self, settings: Settings, application_name: str) -> dict[str, Any]:
        """Limits in milliseconds go with the connection, so no statement can forget them."""
        limits = {
            "statement_timeout": round(settings.database_statement_timeout * 1000),
            "lock_timeout": round(settings.request_timeout * 1000),
            "idle_in_transaction_session_timeout": round(
                (settings.database_statement_timeout + settings.max_request_timeout) * 1000
            ),
            # A query whose client is gone ends, as nobody is left to cancel it.
            "client_connection_check_interval": 1000,
        }
        return {
            "connect_args": {
                "application_name": application_name,
                # libpq counts whole seconds and takes 1 for 2.
                "connect_timeout": max(2, round(settings.request_timeout)),
                "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
                # A peer that vanishes without a word: idle (keepalives) or with unsent data.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": round(settings.database_statement_timeout * 1000) + 1000,
            }
        }

    def prepare(self, engine: Engine, *, autocommit: bool) -> None:
        """Nothing: psycopg's defaults are sound."""

    def limit(self, engine: Engine, settings: Settings) -> None:
        """Nothing: the limits are connect arguments."""

    def connect(
        self, arguments: Sequence[Any], options: Mapping[str, Any], tally: Tally
    ) -> DBAPIConnection:
        """By psycopg with a guard; the time to connect is bounded by the scope's."""
        from threadkit.database import pgbouncer
        from threadkit.database.psycopg_cursor import LazyCursor
        from threadkit.database.psycopg_guard import GuardedConnection

        connection: Any = pgbouncer.connect(GuardedConnection.connect, arguments, options)
        connection.tally = tally
        connection.cursor_factory = LazyCursor
        return connection  # type: ignore[no-any-return]

    def alive(self, connection: DBAPIConnection, idle: float) -> bool:
        """An idle connection has nothing to read: what it has is its end, or an error."""
        guarded: Any = connection
        return guarded.is_whole(look=idle >= WARM)  # type: ignore[no-any-return]

    def interrupted(self, error: BaseException) -> bool:
        """Never: psycopg's waits raise the scope's error."""
        return False

    def demoted(self, error: BaseException, connection: DBAPIConnection) -> bool:
        """A change in a transaction that nobody declared read-only; the server tells its state."""
        if getattr(error, "sqlstate", None) != _READ_ONLY:
            return False
        driver: Any = connection
        states = [driver.info.parameter_status(name) for name in _STANDBY]
        return "on" in states or None in states  # None: a server before PostgreSQL 14

    def fault(self, error: DBAPIError) -> Fault | None:
        """By SQLSTATE; an error without one never reached the server."""
        code: str | None = getattr(error.orig, "sqlstate", None)
        if code in _FAULTS:
            return _FAULTS[code]
        if error.connection_invalidated or (code or "").startswith(_AWAY_CLASSES):
            return Fault.AWAY
        if code is None and type(error.orig).__name__ == "OperationalError":
            refused = any(words in str(error.orig) for words in _REFUSED)
            return Fault.REFUSED if refused else Fault.AWAY
        return None

    @contextmanager
    def migration(self, url: str, *, patience: int) -> Iterator[Connection]:
        """Two connections: one holds the lock in an open transaction, the other migrates.

        Nothing outlives a transaction, so it works behind PgBouncer too, and a migration may
        leave its own for CREATE INDEX CONCURRENTLY (``autocommit_block``).
        """
        engine = create_engine(
            url,
            poolclass=NullPool,
            connect_args={"connect_timeout": 10, "prepare_threshold": None},
        )
        with engine.connect() as gate:
            _lock_migrations(gate)
            event.listen(engine, "begin", _limit_wait(patience))
            with engine.connect() as connection:
                yield connection
                connection.commit()


def _lock_migrations(gate: Connection) -> None:
    gate.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_PATIENCE}s'"))
    gate.execute(text("SET LOCAL statement_timeout = 0"))
    gate.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    try:
        # Without parameters it goes as a simple query, whose snapshot ends with it. One that
        # lasted would have CREATE INDEX CONCURRENTLY wait for this very transaction.
        gate.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise MigrationsRunning from error
        raise


def _limit_wait(seconds: int) -> Callable[[Connection], None]:
    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")

    return limit
