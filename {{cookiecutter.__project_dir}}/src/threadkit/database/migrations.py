"""What ``migrations/env.py`` hands to Alembic.

Every run takes a lock first, so that instances which start together migrate one after
another, and each migration gives up soon where it would wait for a busy table's lock: a
waiting ALTER TABLE stops everyone behind it.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool

from threadkit.database.dialect import dialect_for
from threadkit.settings import Settings, SettingsError

LOCK_TIMEOUT = 5
"""Seconds that a migration waits for a table which the service is using."""


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
    engine = create_engine(settings.database_url, poolclass=NullPool)
    dialect.prepare(engine, autocommit=False)
    with engine.connect() as connection:
        dialect.migration_lock(connection, patience=LOCK_TIMEOUT)
        context.configure(
            connection=connection,
            target_metadata=metadata,
            # SQLite cannot alter most of a table: Alembic copies it instead.
            render_as_batch=dialect.name == "sqlite",
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


def _load(settings_class: type[Settings]) -> Settings:
    try:
        return settings_class.load()
    except SettingsError as error:
        raise SystemExit(str(error)) from None
