"""The service works behind a real PgBouncer in transaction mode, whatever that does to options."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import make_url, select, text

from threadkit.concurrency import DeadlineExceeded, fail_after, move_on_after
from threadkit.database import Database, read, transaction

from ...servers.pgbouncer import PgBouncer

pytest.importorskip("psycopg")

NewDatabase = Callable[..., str]
Open = Callable[..., Database]


@pytest.fixture(params=["", "options"], ids=["refuses", "ignores"])
def url(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[str]:
    """A database through a PgBouncer that refuses the kit's options, or drops them."""
    program = PgBouncer.find()
    if program is None:
        pytest.skip("PgBouncer is not installed (package pgbouncer)")
    direct = make_url(new_database("postgresql", migrated=False))
    bouncer = PgBouncer(program, upstream=direct.port or 0, size=3, ignore=request.param)
    yield bouncer.address(direct.database or "")
    bouncer.stop()


@pytest.fixture
def database(url: str, open_database: Open) -> Database:
    return open_database(
        url, concurrency=6, database_pool_size=6, request_timeout=30, database_pool_timeout=20
    )


def test_statements_are_not_prepared_on_a_connection_that_is_somebody_elses_next(
    database: Database, word: Any
) -> None:
    """Six clients share three server connections, each with the same statement many times."""
    del database

    def work(number: int) -> int:
        for turn in range(30):
            with transaction() as db:
                db.add(word(text=f"{number}-{turn}"))
            with read() as db:
                db.scalars(select(word).limit(1)).all()
        return 30

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) == 180
    with read() as db:
        assert len(db.scalars(select(word.id)).all()) == 180


def test_a_query_ends_at_its_deadline(database: Database) -> None:
    began = monotonic()
    with pytest.raises(DeadlineExceeded), fail_after(0.3), read() as db:
        db.execute(text("SELECT pg_sleep(20)"))
    assert monotonic() - began < 2
    counts = database.tally.counts()
    assert (counts["cancelled"], counts["dropped"]) == (1, 0)


def test_cancels_aimed_at_completion_hit_no_other_query(database: Database) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(30):
            with read() as db:
                with move_on_after(0.001 + 0.004 * ((turn * 6 + number) % 31) / 31):
                    db.execute(text("SELECT pg_sleep(0.004)"))
                if db.scalar(text("SELECT 7")) != 7:
                    wrong.append("a wrong answer")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert wrong == []
    assert database.tally.counts()["cancelled"] > 0
    assert database.tally.counts()["dropped"] == 0


def test_it_is_said_once_who_keeps_the_nets(
    url: str, open_database: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("threadkit.database.pgbouncer._told", False)
    with caplog.at_level(logging.WARNING):
        open_database(url)
        with read() as db, transaction() as other:
            db.execute(text("SELECT 1"))
            other.execute(text("SELECT 1"))
    told = [record for record in caplog.records if "pooler" in record.message]
    assert len(told) == 1
    assert "statement_timeout" in told[0].message


def test_without_a_pooler_the_nets_are_in_force_and_nothing_is_said(
    new_database: NewDatabase, open_database: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        open_database(new_database("postgresql", migrated=False), database_statement_timeout=7)
        with read() as db:
            assert db.scalar(text("SHOW statement_timeout")) == "7s"
    assert not [record for record in caplog.records if "pooler" in record.message]
