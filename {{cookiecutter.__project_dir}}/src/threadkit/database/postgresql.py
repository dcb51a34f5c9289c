"""PostgreSQL by psycopg 3: the server's own nets below every request's deadline."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from threadkit.database.dialect import Fault
from threadkit.settings import Settings

# One lock for the migrations of all instances; the number only has to be ours.
_MIGRATION_LOCK = 0x7468_7265_6164

# SQLSTATE classes and codes, PostgreSQL documentation, appendix A.
_AWAY_CLASSES = ("08", "57P", "53", "58")
_MISSING = ("42P01", "42703", "3F000")


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

    def fault(self, error: DBAPIError) -> Fault | None:
        """By SQLSTATE; an error without one never reached the server."""
        code: str | None = getattr(error.orig, "sqlstate", None)
        if error.connection_invalidated or (code or "").startswith(_AWAY_CLASSES):
            return Fault.AWAY
        if code is None:
            return Fault.AWAY if type(error.orig).__name__ == "OperationalError" else None
        if code == "57014":
            return Fault.TIMEOUT
        if code == "55P03":
            return Fault.LOCKED
        return Fault.MISSING if code in _MISSING else None

    def migration_lock(self, connection: Connection, *, patience: int) -> None:
        """An advisory lock of the session, taken before the limit on waiting comes into force."""
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.execute(text(f"SET SESSION lock_timeout = '{patience}s'"))
        connection.commit()
