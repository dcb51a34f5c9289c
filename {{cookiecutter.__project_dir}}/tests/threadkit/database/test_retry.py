"""``transaction(retries=n).run(work)`` repeats what may be repeated, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from threadkit.concurrency import Cancelled, fail_after
from threadkit.database import Database, read, transaction
from threadkit.database.faults import TransactionConflict

NewDatabase = Callable[..., str]
Open = Callable[..., Database]

# Ends with the very error of a deadlock.
CONFLICT = {
    "postgresql": "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$",
    "mysql": "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213",
}
KINDS = sorted(CONFLICT)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, new_database: NewDatabase, open_database: Open) -> str:
    """The kind of the database of this process."""
    open_database(new_database(request.param, migrated=False))
    return str(request.param)


def both(one: Callable[[], object], two: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(one), pool.submit(two)]
        return [future.result(30) for future in futures]


def crossing(word: Any, *, retries: int) -> tuple[list[Callable[[], str]], list[int]]:
    """Two transactions that change two rows in opposite order, and certainly meet once."""
    with transaction() as db:
        db.add_all([word(id=1, text=""), word(id=2, text="")])
    met = threading.Barrier(2)
    attempts = [0, 0]

    def mover(number: int) -> Callable[[], str]:
        mine, other = (1, 2) if number == 0 else (2, 1)

        def work(db: Session) -> str:
            attempts[number] += 1
            change = update(word).values(text=word.text + str(number))
            if db.get_bind().dialect.name == "mysql":
                change = update(word).values(text=func.concat(word.text, str(number)))
            db.execute(change.where(word.id == mine))
            if attempts[number] == 1:
                met.wait(20)
            db.execute(change.where(word.id == other))
            return f"moved {number}"

        return lambda: transaction(retries=retries).run(work)

    return [mover(0), mover(1)], attempts


def test_a_deadlock_is_repeated_until_both_are_through(kind: str, word: Any) -> None:
    del kind
    movers, attempts = crossing(word, retries=5)
    assert both(*movers) == ["moved 0", "moved 1"]
    assert sum(attempts) > 2
    with read() as db:
        texts = db.scalars(select(word.text)).all()
    assert [sorted(text) for text in texts] == [["0", "1"], ["0", "1"]]


def test_without_retries_one_of_two_hears_of_the_deadlock(kind: str, word: Any) -> None:
    del kind
    movers, attempts = crossing(word, retries=0)

    def conflict(mover: Callable[[], str]) -> str:
        try:
            return mover()
        except TransactionConflict as error:
            return f"undone: {error.status}"

    done = both(lambda: conflict(movers[0]), lambda: conflict(movers[1]))
    assert sorted(str(answer)[:6] for answer in done) == ["moved ", "undone"]
    assert "undone: 503" in done
    assert attempts == [1, 1]


def test_a_serialisation_failure_is_repeated(
    new_database: NewDatabase, open_database: Open, word: Any
) -> None:
    """Each adds a word if there is none: under SERIALIZABLE only one of two may."""
    open_database(new_database("postgresql", migrated=False))
    met = threading.Barrier(2)
    attempts: list[int] = []

    def adder(number: int) -> Callable[[], bool]:
        first = [True]

        def work(db: Session) -> bool:
            attempts.append(number)
            db.connection(execution_options={"isolation_level": "SERIALIZABLE"})
            empty = db.scalar(select(func.count()).select_from(word)) == 0
            if first.pop():
                met.wait(20)
            first.append(False)
            if empty:
                db.add(word(text=str(number)))
            return empty

        return lambda: transaction(retries=5).run(work)

    assert sorted(map(bool, both(adder(0), adder(1)))) == [False, True]
    assert len(attempts) > 2
    with read() as db:
        assert len(db.scalars(select(word)).all()) == 1


def test_every_run_gets_a_session_in_which_nothing_is_left(kind: str, word: Any) -> None:
    sessions: list[Session] = []

    def work(db: Session) -> None:
        sessions.append(db)
        assert not db.new
        db.add(word(text="one"))
        db.flush()
        if len(sessions) < 3:
            db.execute(text(CONFLICT[kind]))

    transaction(retries=2).run(work)
    assert len(set(map(id, sessions))) == 3
    with read() as db:
        assert len(db.scalars(select(word)).all()) == 1


def test_after_the_last_retry_the_caller_is_told(kind: str) -> None:
    attempts: list[int] = []

    def work(db: Session) -> None:
        attempts.append(1)
        db.execute(text(CONFLICT[kind]))

    with pytest.raises(TransactionConflict) as caught:
        transaction(retries=3).run(work)
    assert len(attempts) == 4
    assert caught.value.retry_after == 1


def test_no_other_error_is_repeated(kind: str, word: Any) -> None:
    del kind
    attempts: list[int] = []

    def work(db: Session) -> None:
        attempts.append(1)
        db.add_all([word(id=1, text="a")])
        db.flush()
        db.execute(text("INSERT INTO words (id, text) VALUES (1, 'b')"))

    with pytest.raises(IntegrityError):
        transaction(retries=3).run(work)
    assert len(attempts) == 1


def test_nobody_tries_again_past_the_deadline(kind: str) -> None:
    began = monotonic()
    with pytest.raises((TransactionConflict, Cancelled)), fail_after(0.3):
        transaction(retries=1_000_000).run(lambda db: db.execute(text(CONFLICT[kind])))
    assert monotonic() - began < 3


def test_a_with_block_cannot_be_repeated_and_says_so(database: Database) -> None:
    with (
        pytest.raises(RuntimeError, match=r"transaction\(retries=3\)\.run"),
        transaction(retries=3),
    ):
        pass


def test_a_transaction_is_for_one_block(database: Database) -> None:
    once = transaction()
    with once:
        pass
    with pytest.raises(RuntimeError, match="one block"), once:
        pass


def test_what_the_work_returns_comes_back(database: Database, word: Any) -> None:
    def add(db: Session) -> int:
        db.add(made := word(text="one"))
        db.flush()
        return int(made.id)

    assert transaction().run(add) == 1
    with read() as db:
        assert db.get(word, 1) is not None
