"""``read()`` looks, ``transaction()`` changes, and neither keeps a connection."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.orm.exc import DetachedInstanceError

from threadkit.database import Database, read, transaction
from threadkit.database.faults import DatabaseLocked, PoolExhausted


def test_a_transaction_commits_where_its_block_ends(database: Database, word: Any) -> None:
    with transaction() as db:
        db.add(word(text="one"))
    with read() as db:
        assert db.scalars(select(word.text)).all() == ["one"]


def test_a_transaction_rolls_back_where_its_block_raises(database: Database, word: Any) -> None:
    with pytest.raises(LookupError), transaction() as db:
        db.add(word(text="one"))
        db.flush()
        raise LookupError
    with read() as db:
        assert db.scalars(select(word.text)).all() == []


def test_what_was_loaded_stays_readable_afterwards(database: Database, word: Any) -> None:
    with transaction() as db:
        db.add(word(text="one"))
    with read() as db:
        found = db.scalars(select(word)).one()
    assert found.text == "one"


def test_nothing_is_loaded_behind_your_back_once_closed(database: Database, word: Any) -> None:
    with transaction() as db:
        db.add(word(text="one"))
    with read() as db:
        found = db.scalars(select(word)).one()
        db.expire(found)
    with pytest.raises(DetachedInstanceError):
        _ = found.text


def test_a_change_in_read_is_refused_with_the_remedy(database: Database, word: Any) -> None:
    with pytest.raises(RuntimeError, match=r"Use transaction\(\)"), read() as db:
        db.execute(insert(word).values(text="one"))
    with pytest.raises(RuntimeError, match=r"Use transaction\(\)"), read() as db:
        db.add(word(text="one"))
        db.flush()


def test_each_statement_of_read_stands_for_itself(database: Database, word: Any) -> None:
    with read() as db:
        assert db.scalars(select(word.text)).all() == []
        with transaction() as other:
            other.add(word(text="one"))
        assert db.scalars(select(word.text)).all() == ["one"]


def test_no_connection_is_kept(database: Database, word: Any) -> None:
    for _ in range(10):
        with read() as db:
            db.scalars(select(word)).all()
        with transaction() as db:
            db.add(word(text="one"))
    stats = database.stats()
    assert stats["read_in_use"] == 0
    assert stats["write_in_use"] == 0


def test_an_exhausted_pool_is_said_within_its_time(database: Database) -> None:
    with read() as one, read() as two:
        one.execute(text("SELECT 1"))
        two.execute(text("SELECT 1"))
        with pytest.raises(PoolExhausted) as caught, read() as three:
            three.execute(text("SELECT 1"))
    assert caught.value.retry_after == 1


def test_a_writer_that_waited_too_long_is_told_to_retry(database: Database, word: Any) -> None:
    with transaction() as first:
        first.add(word(text="one"))
        first.flush()
        with pytest.raises(DatabaseLocked) as caught, transaction() as second:
            second.add(word(text="two"))
            second.flush()
    assert caught.value.retry_after == 1


def test_without_an_app_the_remedy_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"create_app\(\)"), read():
        pass
