"""What a server complains of becomes the service's own error, on each kind of server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from threadkit.database import Database, read, transaction
from threadkit.database.faults import DatabaseAway, DatabaseFull, without_names

NewDatabase = Callable[..., str]
Open = Callable[..., Database]

# Statements that end with the very error of a full disk.
FULL = {
    "sqlite": ("PRAGMA max_page_count = 2", "CREATE TABLE full_up AS SELECT randomblob(100000)"),
    "postgresql": (
        "SELECT 1",
        "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$",
    ),
    "mysql": ("SELECT 1", "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021"),
}


@pytest.mark.parametrize("kind", sorted(FULL))
def test_a_full_disk_is_said_and_looking_goes_on(
    open_database: Open, new_database: NewDatabase, kind: str
) -> None:
    open_database(new_database(kind, migrated=False), table=False)
    limit, write = FULL[kind]
    with pytest.raises(DatabaseFull, match="no room") as caught, transaction() as db:
        db.execute(text(limit))
        db.execute(text(write))
    assert caught.value.retry_after > 1
    with read() as db:
        assert db.scalar(text("SELECT 1")) == 1


DEMOTED = {
    "postgresql": ("SET SESSION default_transaction_read_only = on", "CREATE TABLE other (n int)"),
    "mysql": (
        "SELECT 1",
        "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'the --read-only option'",
    ),
}


@pytest.mark.parametrize("kind", sorted(DEMOTED))
def test_a_server_that_is_a_standby_now_is_away_and_its_connection_is_replaced(
    open_database: Open, new_database: NewDatabase, kind: str
) -> None:
    """After a failover nobody ends the connections to the old primary, and it goes on reading."""
    database = open_database(new_database(kind, migrated=False), table=False, database_pool_size=1)
    demote, write = DEMOTED[kind]
    with database.write.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(demote))
    with pytest.raises(DatabaseAway), transaction() as db:
        db.execute(text(write))
    assert database.stats()["invalidations"] == 1
    with transaction() as db:
        db.execute(text("CREATE TABLE other (n int)"))


def test_a_change_in_a_transaction_that_only_reads_is_a_mistake_in_the_code(
    open_database: Open, new_database: NewDatabase
) -> None:
    database = open_database(new_database("postgresql", migrated=False), table=False)
    with pytest.raises(DBAPIError, match="read-only"), transaction() as db:
        db.execute(text("SET TRANSACTION READ ONLY"))
        db.execute(text("CREATE TABLE other (n int)"))
    assert database.stats()["invalidations"] == 0


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_database_that_is_not_there_is_named_to_operators_and_not_to_callers(
    open_database: Open, new_database: NewDatabase, kind: str
) -> None:
    there = new_database(kind, migrated=False)
    database = open_database(f"{there.rpartition('/')[0]}/nowhere", table=False)
    with capture_logs() as logs:
        with pytest.raises(DatabaseAway) as caught, read() as db:
            db.execute(text("SELECT 1"))
        fault = database.fault() or ""
    assert "nowhere" not in caught.value.detail
    # Anyone may ask /readyz: it says what to do, and the log says whom it concerns.
    assert "nowhere" not in fault
    assert "Check DATABASE_URL" in fault
    (told,) = logs  # once for both
    assert "nowhere" in told["reason"]
    assert told["log_level"] == "warning"


def test_hosts_and_users_are_no_business_of_callers() -> None:
    said = 'connection to server at "10.0.0.7", port 5432 failed: FATAL: no such role "joe"'
    assert (
        without_names(said) == "connection to server at …, port 5432 failed: FATAL: no such role …"
    )
    said = "Can't connect to MySQL server on 'db.internal' ([Errno 111] refused)"
    assert without_names(said) == "Can't connect to MySQL server on … ([Errno 111] refused)"
    assert without_names("denied for user 'joe'@'10.0.0.7' (it's so)") == (
        "denied for user … (it's so)"
    )
