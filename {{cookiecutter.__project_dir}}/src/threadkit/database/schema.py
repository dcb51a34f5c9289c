"""Does the database have the schema that this code needs?

Compares Alembic's revision in the database with the newest one in ``migrations/``. A
database that is *ahead* of the code is in order: that is what a rolling update looks like to
the instances that are still old.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

MIGRATIONS = Path("migrations")
"""Relative to the project's folder, in which the service starts."""

_REMEDY = "Run `make migrate`."


class Schema:
    """The revisions in ``migrations/``, read once. Thread-safe."""

    def __init__(self, folder: Path = MIGRATIONS) -> None:
        self._folder = folder

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        # Imported when the first probe asks, so that it does not delay the start; and
        # Alembic introduces each of its plugins in a line of the log.
        logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
        from alembic.script import ScriptDirectory

        return ScriptDirectory(str(self._folder))

    def fault(self, connection: Connection) -> str | None:
        """Why the schema does not fit, with the remedy; None where it does."""
        if not (self._folder / "env.py").is_file():
            return (
                f"There are no migrations in {self._folder.absolute()}. "
                "Start the service in the project's folder."
            )
        present = _applied(connection)
        wanted = set(self._scripts.get_heads())
        if present == wanted:
            return None
        if not present:
            return f"The database has no schema yet. {_REMEDY}"
        known = {script.revision for script in self._scripts.walk_revisions()}
        if present - known:
            return None
        return (
            f"The database is at revision {', '.join(sorted(present))} and the code needs "
            f"{', '.join(sorted(wanted))}. {_REMEDY}"
        )


def _applied(connection: Connection) -> set[str]:
    # Alembic's own way to ask logs two lines each time, and a probe asks every second.
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.scalars(text("SELECT version_num FROM alembic_version")))
