"""Databases for all tests: real ones, fresh for each test and already migrated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .servers.databases import KINDS, Databases, UnavailableError

NewDatabase = Callable[..., str]


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Every database server that the tests have started; stopped at the end."""
    made = Databases(tmp_path_factory.mktemp("databases"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def new_database(databases: Databases) -> NewDatabase:
    """The address of a fresh database, by its kind; skips where there is no such server.

    ``migrated=False`` makes an empty one.
    """

    def new(kind: str, *, migrated: bool = True) -> str:
        try:
            return databases.new(kind, migrated=migrated)
        except UnavailableError as missing:
            pytest.skip(str(missing))

    return new


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, new_database: NewDatabase) -> str:
    """A fresh database of each kind in turn."""
    return new_database(request.param)


@pytest.fixture
def postgresql_url(new_database: NewDatabase) -> str:
    """A fresh database of a real PostgreSQL."""
    return new_database("postgresql")
