"""Readiness knows whether the schema fits the code, and says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from threadkit.database import Database, read
from threadkit.database.faults import SchemaBehind
from threadkit.database.schema import Schema


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Two revisions, the second the newest."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").touch()
    for revision, parent in (("0001", None), ("0002", "0001")):
        (folder / "versions" / f"{revision}.py").write_text(
            f"revision = {revision!r}\ndown_revision = {parent!r}\n"
        )
    return folder


def at(database: Database, *revisions: str) -> None:
    """Pretend that migrations ran up to here."""
    with database.write.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        for revision in revisions:
            connection.execute(text(f"INSERT INTO alembic_version VALUES ('{revision}')"))


def fault(database: Database, folder: Path) -> str | None:
    with database.read.connect() as connection:
        return Schema(folder).fault(connection)


def test_a_database_without_a_schema_names_the_remedy(database: Database, migrations: Path) -> None:
    assert "make migrate" in (fault(database, migrations) or "")


def test_a_schema_that_is_behind_names_both_revisions(database: Database, migrations: Path) -> None:
    at(database, "0001")
    text = fault(database, migrations) or ""
    assert "0001" in text
    assert "0002" in text
    assert "make migrate" in text


def test_the_newest_schema_fits(database: Database, migrations: Path) -> None:
    at(database, "0002")
    assert fault(database, migrations) is None


def test_a_schema_ahead_of_the_code_fits(database: Database, migrations: Path) -> None:
    """Old instances go on during a rolling update."""
    at(database, "0003")
    assert fault(database, migrations) is None


def test_no_migrations_at_all_says_where_they_were_looked_for(
    database: Database, tmp_path: Path
) -> None:
    text = fault(database, tmp_path / "elsewhere") or ""
    assert "elsewhere" in text
    assert "project's folder" in text


def test_a_missing_table_is_operations_fault_while_the_schema_is_behind(
    database: Database, migrations: Path
) -> None:
    database.schema = Schema(migrations)
    at(database, "0001")
    with pytest.raises(SchemaBehind, match="make migrate"), read() as db:
        db.execute(text("SELECT * FROM nowhere"))


def test_a_missing_table_is_the_codes_fault_where_the_schema_fits(
    database: Database, migrations: Path
) -> None:
    database.schema = Schema(migrations)
    at(database, "0002")
    with pytest.raises(OperationalError), read() as db:
        db.execute(text("SELECT * FROM nowhere"))


def test_a_probe_stands_in_for_the_next_for_a_while(database: Database, migrations: Path) -> None:
    database.schema = Schema(migrations)
    assert "no schema yet" in (database.fault() or "")
    at(database, "0002")
    assert "no schema yet" in (database.fault() or "")


def test_a_file_that_cannot_be_opened_is_a_database_that_is_away(
    database: Database, tmp_path: Path
) -> None:
    database.close()
    (tmp_path / "words.db").unlink()
    (tmp_path / "words.db").mkdir()
    assert "away" in (database.fault() or "")
