"""A query ends with its scope on MariaDB and SQLite too, and its connection is whole afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import make_url, select, text

from threadkit.concurrency import (
    CancelScope,
    DeadlineExceeded,
    fail_after,
    move_on_after,
)
from threadkit.database import Database, read, transaction
from threadkit.database.faults import DatabaseAway, DatabaseLocked, DatabaseSilent, OutcomeUnknown
from threadkit.database.guard import GRACE

from ...servers.processes import eventually
from ...servers.relay import Relay

NewDatabase = Callable[..., str]
Open = Callable[..., Database]

# Takes longer than any test, without a lock.
LONG = {
    "sqlite": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    ),
    "mysql": "SELECT SLEEP(20)",
}
# Takes about as many milliseconds as it says.
SHORT = {
    "sqlite": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000) "
        "SELECT sum(i) FROM n"
    ),
    # All that SLEEP in a MariaDB share one lock, for which KILL itself may wait.
    "mysql": "SELECT SUM(MD5(seq) > 'a') FROM seq_1_to_4000",
}


@pytest.fixture(params=sorted(LONG))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    return str(request.param)


@pytest.fixture
def database(kind: str, new_database: NewDatabase, open_database: Open) -> Database:
    """Of that kind, the one of this process."""
    url = new_database(kind, migrated=False)
    waits = {"request_timeout": 30, "database_pool_timeout": 20}
    return open_database(url, concurrency=6, database_pool_size=6, **waits)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def test_a_query_ends_at_its_deadline(database: Database, kind: str) -> None:
    began = monotonic()
    with pytest.raises(DeadlineExceeded) as caught, fail_after(0.3), read() as db:
        db.execute(text(LONG[kind]))
    assert 0.29 < monotonic() - began < 2
    assert not isinstance(caught.value, DatabaseAway)
    counts = database.tally.counts()
    assert (counts["cancelled"], counts["dropped"]) == (1, 0)
    with read() as db:
        assert db.scalar(text("SELECT 7")) == 7


def test_a_query_ends_when_another_thread_cancels_its_scope(database: Database, kind: str) -> None:
    scope = CancelScope()
    began = threading.Event()

    def work() -> None:
        with scope, read() as db:
            began.set()
            db.execute(text(LONG[kind]))

    thread, raised = in_thread(work)
    assert began.wait(10)
    eventually(database.statements.documents, what="it runs")
    at = monotonic()
    scope.cancel("the client left")
    thread.join(10)
    assert monotonic() - at < 2
    assert raised == []
    assert scope.cancelled_caught


def test_a_scope_that_is_over_sends_nothing(database: Database, kind: str) -> None:
    del database
    with transaction() as db:
        db.execute(text("SELECT 1"))
        with move_on_after(0) as scope:
            db.execute(text(LONG[kind]))
        assert scope.cancelled_caught
        assert db.scalar(text("SELECT 7")) == 7


def test_a_transaction_that_was_cut_short_is_rolled_back(
    database: Database, kind: str, word: Any
) -> None:
    with pytest.raises(DeadlineExceeded), fail_after(0.3), transaction() as db:
        db.add(word(text="one"))
        db.flush()
        db.execute(text(LONG[kind]))
    with read() as db:
        assert db.scalars(select(word.text)).all() == []
    assert database.tally.counts()["dropped"] == 0


def test_a_lock_is_not_waited_for_longer_than_the_scope_lasts(
    database: Database, word: Any
) -> None:
    with transaction() as db:
        db.add(word(id=1, text="one"))
    with transaction() as holder:
        holder.execute(text("UPDATE words SET text = 'two'"))
        at = monotonic()
        with pytest.raises(DeadlineExceeded), fail_after(0.2), transaction() as db:
            db.execute(text("UPDATE words SET text = 'three'"))
        assert 0.19 < monotonic() - at < 2
        scope = CancelScope()

        def wait() -> None:
            with scope, transaction() as db:
                db.execute(text("UPDATE words SET text = 'four'"))

        thread, raised = in_thread(wait)
        eventually(lambda: scope.thread_id, what="it waits")
        thread.join(0.1)
        at = monotonic()
        scope.cancel()
        thread.join(10)
        assert monotonic() - at < 1
        assert raised == []
    with read() as db:
        assert db.scalars(select(word.text)).all() == ["two"]
    assert database.tally.counts()["dropped"] == 0


def test_a_commit_is_not_begun_after_the_scope_is_over(database: Database, word: Any) -> None:
    del database
    with CancelScope() as scope, transaction() as db:
        db.add(word(text="one"))
        db.flush()
        scope.cancel("over")
    assert scope.cancelled_caught
    with read() as db:
        assert db.scalars(select(word.text)).all() == []


def test_cancels_aimed_at_completion_hit_no_other_query(
    database: Database, kind: str, word: Any
) -> None:
    """8 threads on 6 connections; every query that no scope ends is innocent."""
    del word
    wrong: list[str] = []
    cancelled = [0] * 8
    gate = threading.Barrier(8)

    def work(number: int) -> None:
        gate.wait(10)
        for turn in range(32):
            seconds = 0.0005 + 0.003 * ((turn * 8 + number) % 61) / 61
            with read() as db:
                with move_on_after(seconds) as scope:
                    db.execute(text(SHORT[kind]))
                cancelled[number] += scope.cancelled_caught
                if db.scalar(text("SELECT 7")) != 7:
                    wrong.append("a wrong answer")

    threads = [in_thread(lambda number=number: work(number)) for number in range(8)]  # type: ignore[misc]
    for thread, _ in threads:
        thread.join(60)
    assert [error for _, raised in threads for error in raised] == []
    assert wrong == []
    assert sum(cancelled) > 0
    assert database.tally.counts()["dropped"] == 0
    assert database.stats()["read_in_use"] == 0


# MariaDB alone: there is a network in between.


@pytest.fixture
def relay_url(new_database: NewDatabase) -> Iterator[tuple[Relay, str]]:
    """A relay to a MariaDB, and the address of the database through it."""
    url = make_url(new_database("mysql", migrated=False))
    with Relay(url.port or 0) as relay:
        host, _, port = relay.address.partition(":")
        yield relay, url.set(host=host, port=int(port)).render_as_string(hide_password=False)


@pytest.fixture
def over_relay(
    relay_url: tuple[Relay, str], open_database: Open
) -> Iterator[tuple[Relay, Database]]:
    """A relay, and the database of this process behind it."""
    relay, url = relay_url
    yield relay, open_database(url)
    relay.mend()


def test_a_server_that_does_not_answer_costs_the_grace_and_the_connection(
    over_relay: tuple[Relay, Database],
) -> None:
    relay, database = over_relay
    with read() as db:
        before = db.scalar(text("SELECT CONNECTION_ID()"))
    relay.stall()
    at = monotonic()
    with pytest.raises(DatabaseSilent) as caught, fail_after(0.3), read() as db:
        db.execute(text("SELECT 1"))
    assert monotonic() - at < 0.3 + GRACE + 0.7
    assert caught.value.status == 503
    assert database.tally.counts()["dropped"] == 1
    relay.mend()
    with read() as db:
        assert db.scalar(text("SELECT CONNECTION_ID()")) != before


def test_to_connect_takes_no_longer_than_the_scope_lasts(
    over_relay: tuple[Relay, Database],
) -> None:
    relay, _ = over_relay
    relay.stall()
    at = monotonic()
    with pytest.raises(DatabaseAway), fail_after(0.3), read() as db:
        db.execute(text("SELECT 1"))
    assert monotonic() - at < 2


def test_a_commit_that_does_not_end_is_of_unknown_outcome(
    over_relay: tuple[Relay, Database], word: Any
) -> None:
    relay, database = over_relay
    at = monotonic()
    with pytest.raises(OutcomeUnknown), fail_after(0.5), transaction() as db:
        db.add(word(text="one"))
        db.flush()
        relay.stall()
    assert monotonic() - at < 0.5 + GRACE + 1
    assert database.tally.counts()["dropped"] == 1
    relay.mend()
    with read() as db:  # all of it, or nothing
        assert db.scalars(select(word.text)).all() in (["one"], [])


def test_a_connection_lost_in_a_commit_is_of_unknown_outcome(
    over_relay: tuple[Relay, Database], word: Any
) -> None:
    relay, _ = over_relay
    with pytest.raises(OutcomeUnknown), transaction() as db:
        db.add(word(text="one"))
        db.flush()
        relay.cut()
        eventually(lambda: relay.connections == 0, what="the relay has cut")


# SQLite alone.


def test_a_writer_waits_for_another_one_as_long_as_it_may(
    new_database: NewDatabase, open_database: Open, word: Any
) -> None:
    open_database(new_database("sqlite", migrated=False), request_timeout=0.5)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction() as db:
            db.add(word(text="one"))
            db.flush()
            held.set()
            done.wait(20)

    thread, raised = in_thread(hold)
    assert held.wait(10)
    at = monotonic()
    with pytest.raises(DatabaseLocked), transaction() as db:
        db.add(word(text="two"))
    assert 0.4 < monotonic() - at < 2
    done.set()
    thread.join(10)
    assert raised == []


def test_the_private_names_of_pymysql_are_where_they_were() -> None:
    """An upgrade that moves one of them fails here, and not in the middle of the night."""
    pymysql = pytest.importorskip("pymysql")
    import inspect

    connection = pymysql.connections.Connection
    source = {
        name: inspect.getsource(getattr(connection, name))
        for name in ("_read_packet", "_read_bytes", "_write_bytes", "_execute_command", "connect")
    }
    assert "self._read_bytes(4)" in source["_read_packet"]
    assert "self._current_timeout != self._read_timeout" in source["_read_packet"]
    assert "self._sock.settimeout(self._write_timeout)" in source["_write_bytes"]
    assert "self._write_bytes(" in source["_execute_command"]
    assert "self._rfile" in source["_read_bytes"]
    assert "original_exception" in source["connect"]
    # Nobody else reads from or writes to the socket.
    whole = inspect.getsource(connection)
    assert whole.count("self._rfile.read(") == 1
    assert whole.count("self._sock.sendall(") == 1
    assert "_sock.recv" not in whole
    assert callable(connection._force_close)
    assert "self._create_ssl_ctx({})" in whole
    for method in ("commit", "rollback"):
        assert "self._execute_command(" in inspect.getsource(getattr(connection, method))
