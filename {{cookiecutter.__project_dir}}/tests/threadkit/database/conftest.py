"""A database of the kit alone, on SQLite, with one table and no migrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from threadkit import runtime as runtimes
from threadkit.database import Database
from threadkit.runtime import Runtime
from threadkit.settings import Settings


class Base(DeclarativeBase):
    """Of this folder's tables."""


class Word(Base):
    """A table."""

    __tablename__ = "words"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(100))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        database_url=f"sqlite:///{tmp_path}/words.db",
        concurrency=2,
        database_pool_size=2,
        database_pool_timeout=0.05,
        request_timeout=0.2,
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Started, and the one of this process."""
    runtime = Runtime(settings)
    database = Database(settings, service="words")
    runtime.add("database", database)
    runtimes.install(runtime)
    runtime.start()
    Base.metadata.create_all(database.write)
    yield database
    runtime.close()


@pytest.fixture
def open_database() -> Iterator[Callable[..., Database]]:
    """Make the database at an address the one of this process, with the table in it.

    ``table=False`` where nobody may be able to make it; other settings as given.
    """
    opened: list[Runtime] = []

    def open_(url: str, *, table: bool = True, **values: Any) -> Database:
        settings = Settings(database_url=url, **{"concurrency": 2, **values})
        opened.append(Runtime(settings))
        database = Database(settings, service="words")
        opened[-1].add("database", database)
        runtimes.install(opened[-1])
        opened[-1].start()
        if table:
            Base.metadata.create_all(database.write)
        return database

    yield open_
    for runtime in opened:
        runtime.close()


@pytest.fixture
def word() -> type[Word]:
    """The table's class, for test modules that cannot import a conftest."""
    return Word
