"""The list of statements that run: complete, without parameters, and never stale."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from threadkit.concurrency import timeline
from threadkit.context import request_id
from threadkit.database.statements import WATCHED, Statements


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = create_engine(
        "sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False}
    )
    yield made
    made.dispose()


def call(engine: Engine, name: str, function: object) -> None:
    """Give SQL a function, so that a statement can wait for the test."""

    @event.listens_for(engine, "connect")
    def connected(connection: DBAPIConnection, _record: object) -> None:
        connection.create_function(name, 0, function)


def test_a_statement_is_listed_while_it_runs_and_not_afterwards(engine: Engine) -> None:
    statements = Statements()
    statements.watch(engine, "write")
    running, go_on = threading.Event(), threading.Event()

    def block() -> int:
        running.set()
        return int(go_on.wait(10))

    call(engine, "block", block)

    def ask() -> None:
        request_id.set("abc")
        with engine.connect() as connection:
            connection.execute(text("SELECT block(), :secret, 'literal'"), {"secret": "hush"})

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert running.wait(5)
        (shown,) = statements.documents()
    finally:
        go_on.set()
        thread.join(5)
    assert shown["statement"] == "SELECT block(), ?, '…'"
    assert shown["pool"] == "write"
    assert shown["request_id"] == "abc"
    assert shown["thread_id"] == thread.ident
    assert shown["seconds"] > 0
    assert statements.documents() == []


@pytest.mark.parametrize("statement", ["SELECT no_such_column", "SELECT fail()"])
def test_one_that_fails_is_listed_no_more(engine: Engine, statement: str) -> None:
    statements = Statements()
    statements.watch(engine, "write")

    def fail() -> int:
        raise KeyError("inside")

    call(engine, "fail", fail)
    line = timeline.Timeline()
    token = timeline.current.set(line)
    try:
        with pytest.raises(DBAPIError), engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        timeline.current.reset(token)
    assert statements.documents() == []
    assert [span.kind for span in line.spans] == ["query"]
    assert line.open_span() is None


def test_one_that_is_torn_out_by_any_exception_is_listed_no_more(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a scope raises within the driver is no error of the driver's."""

    class Torn(BaseException):
        pass

    def tear(*_: object) -> None:
        raise Torn

    monkeypatch.setattr(engine.dialect, "do_execute", tear)  # where the driver would be
    statements = Statements()
    statements.watch(engine, "write")

    with pytest.raises(Torn), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert statements.documents() == []


def test_executemany_is_one_statement(engine: Engine) -> None:
    statements = Statements()
    statements.watch(engine, "write")
    line = timeline.Timeline()
    token = timeline.current.set(line)
    try:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (n INTEGER)"))
            connection.execute(text("INSERT INTO t VALUES (:n)"), [{"n": n} for n in range(9)])
    finally:
        timeline.current.reset(token)
    assert [span.name for span in line.spans] == [
        "CREATE TABLE t (n INTEGER)",
        "INSERT INTO t VALUES (?)",
    ]


def test_sqlalchemy_executes_by_the_dialects_own_methods() -> None:
    """An upgrade that goes another way fails here, and the list would stay empty."""
    source = inspect.getsource(Connection)
    for name in WATCHED:
        assert callable(getattr(DefaultDialect, name))
        calls = re.findall(rf"dialect\.{name}\(\s*(\w+),\s*(\w+)", source)
        assert calls, name
        assert {first for first, _ in calls} == {"cursor"}, name
        assert {second for _, second in calls} <= {"statement", "str_statement", "sub_stmt"}, name
