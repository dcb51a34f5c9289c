"""Your service in one process, on a fresh and migrated database for every test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
from flask.testing import FlaskClient

from threadkit.testing import close, migrate, no_leaked_threads  # noqa: F401

from {{ cookiecutter.package_name }}.app import create_app
from {{ cookiecutter.package_name }}.settings import Settings


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file as `make migrate` leaves it; tests work on copies."""
    path = tmp_path_factory.mktemp("database") / "migrated.db"
    migrate(Settings(database_url=f"sqlite:///{path}"))
    return path


@pytest.fixture
def app(migrated: Path, tmp_path: Path) -> Iterator[flask.Flask]:
    """The service; its threads and connections end with the test."""
    database = shutil.copy(migrated, tmp_path / "test.db")
    app = create_app(Settings(database_url=f"sqlite:///{database}"))
    yield app
    close(app)


@pytest.fixture
def client(app: flask.Flask) -> FlaskClient:
    """Sends requests without a network."""
    return app.test_client()
