"""How many connections the database server allows, asked of itself."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from threadkit.database.engine import Database

_QUESTIONS: Final = {
    # What superusers keep for themselves is not for a service.
    "postgresql": "SELECT current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int",
    "mysql": "SELECT @@max_connections",
}


def is_limited(database: Database) -> bool:
    """Whether there is a server that limits connections; SQLite is a file."""
    return database.write.dialect.name in ("postgresql", "mysql", "mariadb")


def connections_allowed(database: Database) -> int | None:
    """The server's limit; None where it cannot be asked now. May wait for the database."""
    name = database.write.dialect.name
    question = _QUESTIONS["postgresql" if name == "postgresql" else "mysql"]
    try:
        with database.read.connect() as connection:
            return int(connection.execute(text(question)).scalar_one())
    except SQLAlchemyError:
        return None
