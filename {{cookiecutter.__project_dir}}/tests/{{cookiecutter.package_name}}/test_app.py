"""The service as a whole, whatever its resources."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from threadkit.testing import check_migrations

from {{ cookiecutter.package_name }}.app import create_app
from {{ cookiecutter.package_name }}.settings import Settings


def test_a_migrated_service_is_ready(client: FlaskClient) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").json == {"status": "ready"}


def test_the_documentation_is_served(client: FlaskClient) -> None:
    assert client.get("/openapi.json").get_json()["openapi"].startswith("3.1")
    assert client.get("/docs").status_code == 200


def test_a_second_service_in_one_process_is_refused(client: FlaskClient) -> None:
    assert client.get("/livez").status_code == 200
    with pytest.raises(RuntimeError, match="already has a live app"):
        create_app(Settings(database_url="sqlite:///other.db"))


def test_models_and_migrations_agree(migrated: Path) -> None:
    """What `make revision` would write is nothing; if this fails, it is time for one."""
    check_migrations(Settings(database_url=f"sqlite:///{migrated}"))
