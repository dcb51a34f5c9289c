"""What ``migrations/env.py`` hands to Alembic.

Every run takes a lock first, so that instances which start together migrate one after
another, and each migration gives up soon where it would wait for a busy table's lock: a
waiting ALTER TABLE stops everyone behind it. What an operator can cure comes as a sentence;
a traceback is left to what is wrong in a migration.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from alembic import command, context
from alembic.operations.ops import MigrationScript
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import DBAPIError

from threadkit.database.dialect import Dialect, Fault, MigrationsRunning, dialect_for
from threadkit.database.faults import sentence
from threadkit.settings import Settings, SettingsError

LOCK_TIMEOUT = 5
"""Seconds that a migration waits for a table which the service is using."""

_COMPLAINTS = {
    Fault.AWAY: "the database is away: {}\nIs DATABASE_URL right, and the server up?",
    Fault.REFUSED: (
        "the database does not let us in: {}\n"
        "Check the user, the password and the database's name in DATABASE_URL."
    ),
    Fault.FULL: "the database has no room left: {}\nMake room, and run it again.",
    Fault.LOCKED: (
        f"a table was in use for longer than the {LOCK_TIMEOUT} s that a migration waits: {{}}\n"
        "While it waits, every query behind it waits too. Run it again at a quieter moment."
    ),
}


def migrate(metadata: MetaData, settings_class: type[Settings]) -> None:
    """Run Alembic's present command against the service's database.

    Whoever calls Alembic from Python may put settings into its ``attributes``.
    """
    settings = context.config.attributes.get("settings") or _load(settings_class)
    if context.is_offline_mode():
        context.configure(url=settings.database_url, target_metadata=metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    dialect = dialect_for(settings.database_url)
    try:
        with dialect.migration(settings.database_url, patience=LOCK_TIMEOUT) as connection:
            _run(connection, metadata, dialect)
    except MigrationsRunning as busy:
        raise SystemExit(f"Nothing was done: {busy}") from None
    except DBAPIError as error:
        complaint = _COMPLAINTS.get(dialect.fault(error) or Fault.MISSING)
        if complaint is None:
            raise
        raise SystemExit(
            f"It failed: {complaint.format(sentence(error, settings.database_url))}"
        ) from None


def _run(connection: Connection, metadata: MetaData, dialect: Dialect) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite cannot alter most of a table: Alembic copies it instead.
        render_as_batch=dialect.name == "sqlite",
        compare_type=True,
        process_revision_directives=_refuse_empty,
    )
    if _is_newer():
        return
    with context.begin_transaction():
        context.run_migrations()


def _is_newer() -> bool:
    """Whether the database is ahead of ``migrations/``, and ``upgrade`` has nothing to do.

    That is how a rolling update looks to the old code, and an older version that is deployed
    again must start too: the upgrade succeeds, and says what it found.
    """
    scripts = ScriptDirectory.from_config(context.config)
    known = {script.revision for script in scripts.walk_revisions()}
    unknown = sorted(set(context.get_context().get_current_heads()) - known)
    if not unknown:
        return False
    found = (
        f"The database is at revision {', '.join(unknown)}, which is not in migrations/: it was "
        "migrated by newer code than this, or by another branch of it."
    )
    if _command() is not command.upgrade:
        raise SystemExit(f"{found} Nothing was done: take the code that has this revision.")
    print(f"{found} Nothing was changed, and this code can serve from it.", file=sys.stderr)
    return True


def _refuse_empty(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
    # `alembic check` comes here too, and wants to find nothing.
    if _command() is command.revision and all(_is_empty(script) for script in scripts):
        raise SystemExit(
            "No migration was written: the models and the database agree. For one that you write "
            'by hand: .venv/bin/alembic revision -m "…"'
        )


def _is_empty(script: MigrationScript) -> bool:
    return script.upgrade_ops is None or script.upgrade_ops.is_empty()


def _command() -> Any:
    """Alembic's function that runs, if it was started from a shell."""
    options = context.config.cmd_opts
    chosen: Iterable[Any] = getattr(options, "cmd", ())
    return next(iter(chosen), None)


def _load(settings_class: type[Settings]) -> Settings:
    try:
        return settings_class.load()
    except SettingsError as error:
        raise SystemExit(str(error)) from None
