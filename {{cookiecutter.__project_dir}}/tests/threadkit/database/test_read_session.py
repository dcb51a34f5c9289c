"""``read()``: SQLAlchemy's session, without a transaction, and what it rests on."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, event, func, select, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import ORMExecuteState, Session, object_session
from sqlalchemy.orm.exc import DetachedInstanceError

from threadkit.concurrency import TaskGroup, timeline
from threadkit.database import Database, read, transaction


@pytest.fixture
def request_timeline() -> Iterator[timeline.Timeline]:
    """As in a request."""
    line = timeline.Timeline()
    token = timeline.current.set(line)
    yield line
    timeline.current.reset(token)


def test_one_connection_serves_all_statements_of_a_block(database: Database, word: Any) -> None:
    with transaction() as db:
        db.add(word(text="one"))
    with read() as db:
        found = db.scalars(select(word)).one()
        assert database.stats()["read_in_use"] == 1
        assert db.get(word, found.id) is found
        assert database.stats()["read_in_use"] == 1
    assert database.stats()["read_in_use"] == 0


def test_a_block_without_a_statement_takes_no_connection(database: Database) -> None:
    with read():
        assert database.stats()["read_in_use"] == 0


def test_a_parallel_read_in_a_group_has_its_own_session(database: Database) -> None:
    meet = threading.Barrier(2)
    sessions: list[Session] = []

    def look() -> int:
        with read() as db:
            sessions.append(db)
            value = db.scalar(text("SELECT 7"))
            meet.wait(5)
            assert database.stats()["read_in_use"] == 2
            meet.wait(5)
            return int(value or 0)

    with TaskGroup() as group:
        tasks = [group.start(look) for _ in range(2)]
    assert [task.result() for task in tasks] == [7, 7]
    assert sessions[0] is not sessions[1]


def test_a_session_that_outlives_its_request_is_reported_and_closed(
    database: Database, request_timeline: timeline.Timeline, caplog: pytest.LogCaptureFixture
) -> None:
    def opens_and_forgets() -> Any:
        block = read()
        block.__enter__().execute(text("SELECT 1"))
        return block

    forgotten = opens_and_forgets()
    assert database.stats()["read_in_use"] == 1
    with caplog.at_level(logging.WARNING, "threadkit.database"):
        database.leaks.request_ended(request_timeline)
    assert database.stats()["read_in_use"] == 0
    assert database.stats()["leaked"] == 1
    (record,) = caplog.records
    assert "opens_and_forgets" in record.getMessage()
    assert __file__ in record.getMessage()
    forgotten.__exit__(None, None, None)


def test_a_session_that_is_closed_in_time_is_not_reported(
    database: Database, request_timeline: timeline.Timeline
) -> None:
    with read() as db:
        db.execute(text("SELECT 1"))
    with transaction() as db:
        db.execute(text("SELECT 1"))
    database.leaks.request_ended(request_timeline)
    assert database.stats()["leaked"] == 0


def test_another_requests_session_is_left_alone(
    database: Database, request_timeline: timeline.Timeline
) -> None:
    with read() as db:
        db.execute(text("SELECT 1"))
        database.leaks.request_ended(timeline.Timeline())
        assert db.scalar(text("SELECT 2")) == 2
    assert database.stats()["leaked"] == 0


def test_a_session_of_another_thread_is_reported_and_not_closed_under_it(
    database: Database, request_timeline: timeline.Timeline
) -> None:
    opened, ended = threading.Event(), threading.Event()
    values: list[Any] = []

    def work() -> None:
        timeline.current.set(request_timeline)
        with read() as db:
            db.execute(text("SELECT 1"))
            opened.set()
            ended.wait(5)
            values.append(db.scalar(text("SELECT 2")))

    thread = threading.Thread(target=work)
    thread.start()
    assert opened.wait(5)
    database.leaks.request_ended(request_timeline)
    ended.set()
    thread.join(5)
    assert values == [2]
    assert database.stats()["leaked"] == 1
    assert database.stats()["read_in_use"] == 0


def test_who_listens_to_the_engine_hears_of_reads(database: Database) -> None:
    heard: list[str] = []
    event.listen(database.read, "before_cursor_execute", lambda *of: heard.append(of[2]))
    with read() as db:
        db.execute(text("SELECT 7"))
    assert heard == ["SELECT 7"]


def test_who_listens_to_the_session_hears_of_rows_and_of_objects(
    database: Database, word: Any
) -> None:
    heard: list[ORMExecuteState] = []
    with read() as db:
        event.listen(db, "do_orm_execute", heard.append)
        db.execute(select(word.__table__)).all()
        db.scalars(select(word)).all()
    assert len(heard) == 2


def test_rows_are_selected_with_parameters_options_and_as_scalars(
    database: Database, word: Any
) -> None:
    with transaction() as db:
        db.add_all([word(text="one"), word(text="two")])
    table = word.__table__
    by_text = select(table.c.id).where(table.c.text == bindparam("wanted"))
    with read() as db:
        assert db.execute(by_text, {"wanted": "two"}).one() == (2,)
        assert db.scalars(by_text, {"wanted": "one"}).all() == [1]
        assert db.scalar(by_text, {"wanted": "two"}) == 2
        streamed = db.execute(select(table.c.id), execution_options={"yield_per": 1})
        assert streamed.all() == [(1,), (2,)]


def test_each_statements_own_columns_find_their_values(database: Database, word: Any) -> None:
    """Also when the compiled statement is an earlier one's, whose expressions are other objects."""
    with transaction() as db:
        db.add(word(text="one"))
    table = word.__table__
    for _ in range(3):
        other = table.alias()
        length = func.length(table.c.text)
        with read() as db:
            row = db.execute(select(table)).one()
            assert row._mapping[table.c.text] == "one"
            row = db.execute(select(table.c.text)).one()
            assert row._mapping[table.c.text] == "one"
            row = db.execute(select(other)).one()
            assert row._mapping[other.c.text] == "one"
            row = db.execute(select(other.c.id, other.c.text)).one()
            assert row._mapping[other.c.text] == "one"
            row = db.execute(select(table.c.text, length)).one()
            assert row._mapping[length] == 3


def test_what_was_loaded_is_detached_and_loads_no_more(database: Database, word: Any) -> None:
    with transaction() as db:
        db.add(word(text="one"))
    with read() as db:
        found = db.scalars(select(word)).one()
        assert object_session(found) is db
        db.expire(found)
    assert object_session(found) is None
    with pytest.raises(DetachedInstanceError):
        _ = found.text


def test_the_private_names_of_sqlalchemys_session_are_where_they_were(
    database: Database, word: Any
) -> None:
    """An upgrade that moves one of them fails here, and not in the middle of the night."""
    assert "self._connection_for_bind(bind" in inspect.getsource(Session._execute_internal)
    assert "self.get_bind(" in inspect.getsource(Session._execute_internal)
    assert {"_allow_autobegin", "_has_events"} <= set(inspect.signature(Connection).parameters)
    assert Connection._has_events is False
    assert database.read._has_events is False
    assert "self._execute_internal(" in inspect.getsource(Session.execute)
    assert "self._execute_internal(" in inspect.getsource(Session.scalars)
    source = inspect.getsource(CursorResult._init_metadata)
    assert '"_result_disable_adapt_to_context", False' in source
    assert not select(text("7"))._propagate_attrs
    assert select(word.__table__)._raw_columns == [word.__table__]
    assert select(word)._propagate_attrs["compile_state_plugin"] == "orm"
    with Session() as session:
        assert (session._new, session._deleted, session._transaction) == ({}, {}, None)
    with Connection(database.read, _allow_autobegin=False) as connection:
        connection.execute(text("SELECT 1"))
        assert not connection.in_transaction()
