"""A query on PostgreSQL ends with its scope, and its connection is whole or gone afterwards."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.engine import make_url

from threadkit import runtime as runtimes
from threadkit.concurrency import (
    Cancelled,
    CancelScope,
    DeadlineExceeded,
    fail_after,
    move_on_after,
)
from threadkit.database import Database, read, transaction
from threadkit.database.faults import DatabaseAway, DatabaseSilent, OutcomeUnknown
from threadkit.database.guard import GRACE, PROMPT
from threadkit.runtime import Runtime
from threadkit.settings import Settings

from ...servers.processes import eventually
from ...servers.relay import Relay

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def url(new_database: Callable[..., str]) -> str:
    """An empty database of a real PostgreSQL."""
    return new_database("postgresql", migrated=False)


@pytest.fixture
def start(url: str, word: Any) -> Iterator[Callable[..., Database]]:
    """A database room on PostgreSQL, with the one table; settings as given."""
    runtimes_of_test: list[Runtime] = []

    def start(**overrides: Any) -> Database:
        values = {"database_url": url, "database_pool_size": 2, "concurrency": 2, **overrides}
        settings = Settings(**values)
        runtime = Runtime(settings)
        database = Database(settings, service="words")
        runtime.add("database", database)
        runtimes.install(runtime)
        runtime.start()
        runtimes_of_test.append(runtime)
        word.metadata.create_all(database.write)
        return database

    yield start
    for runtime in runtimes_of_test:
        runtime.close()


@pytest.fixture
def database(start: Callable[..., Database]) -> Database:
    return start()


@pytest.fixture
def admin(url: str) -> Iterator[Engine]:
    """Looks at the server from outside of the room."""
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    yield engine
    engine.dispose()


def active(admin: Engine) -> list[str]:
    """The queries that the service's backends are running now."""
    with admin.connect() as connection:
        asked = text(
            "SELECT query FROM pg_stat_activity WHERE state = 'active' "
            "AND application_name LIKE 'words:%' AND datname = current_database()"
        )
        return list(connection.scalars(asked))


def pid(db: Any) -> int:
    return int(db.scalar(text("SELECT pg_backend_pid()")))


def test_a_query_ends_at_its_deadline(database: Database, admin: Engine) -> None:
    began = monotonic()
    with pytest.raises(DeadlineExceeded) as caught, fail_after(0.3), read() as db:
        db.execute(text("SELECT pg_sleep(20)"))
    assert not isinstance(caught.value, DatabaseAway)  # it was slow, and the database there
    assert 0.29 < monotonic() - began < 2
    eventually(lambda: not active(admin), what="the backend is idle", seconds=1)
    counts = database.tally.counts()
    assert (counts["cancelled"], counts["dropped"]) == (1, 0)


def test_a_query_ends_when_another_thread_cancels_its_scope(
    database: Database, admin: Engine
) -> None:
    scope = CancelScope()
    raised: list[Exception] = []

    def work() -> None:
        try:
            with scope, read() as db:
                db.execute(text("SELECT pg_sleep(20)"))
                raised.append(AssertionError("it was not cancelled"))
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: active(admin), what="the query runs")
    began = monotonic()
    scope.cancel("the client left")
    thread.join(10)
    assert monotonic() - began < 2
    assert raised == []
    assert scope.cancelled_caught
    eventually(lambda: not active(admin), what="the backend is idle", seconds=1)


def test_the_connection_is_used_again(database: Database) -> None:
    with read() as db:
        before = pid(db)
    for _ in range(3):
        with move_on_after(0.05), read() as db:
            db.execute(text("SELECT pg_sleep(20)"))
    with read() as db:
        assert pid(db) == before
    assert database.tally.counts()["dropped"] == 0


def test_a_scope_that_is_over_sends_nothing(database: Database) -> None:
    with transaction() as db:
        db.execute(text("SELECT 1"))
        with move_on_after(0) as scope:
            db.execute(text("SELECT pg_sleep(20)"))
        assert scope.cancelled_caught
        assert db.scalar(text("SELECT 1")) == 1


def test_every_further_query_of_a_cancelled_scope_raises_at_once(database: Database) -> None:
    with CancelScope() as scope, read() as db:
        db.execute(text("SELECT 1"))
        scope.cancel("over")
        for _ in range(3):
            with pytest.raises(Cancelled, match="over"):
                db.execute(text("SELECT 1"))


def test_a_transaction_that_was_cut_short_is_rolled_back(database: Database, word: Any) -> None:
    with pytest.raises(DeadlineExceeded), fail_after(0.2), transaction() as db:
        db.add(word(text="one"))
        db.flush()
        db.execute(text("SELECT pg_sleep(20)"))
    with read() as db:
        assert db.scalars(select(word.text)).all() == []
    stats = database.stats()
    assert stats["write_in_use"] == 0
    assert database.tally.counts()["dropped"] == 0


def test_a_lock_is_not_waited_for_longer_than_the_scope_lasts(
    database: Database, word: Any
) -> None:
    with transaction() as db:
        db.add(word(text="one"))
    with transaction() as holder:
        holder.execute(text("UPDATE words SET text = 'two'"))
        began = monotonic()
        with pytest.raises(DeadlineExceeded), fail_after(0.2), transaction() as db:
            db.execute(text("UPDATE words SET text = 'three'"))
        assert monotonic() - began < 2
    with read() as db:
        assert db.scalars(select(word.text)).all() == ["two"]


def test_a_commit_is_not_begun_after_the_scope_has_ended(database: Database, word: Any) -> None:
    with CancelScope() as scope, transaction() as db:
        db.add(word(text="one"))
        db.flush()
        scope.cancel("over")  # the block ends in order, and its commit has to notice
    assert scope.cancelled_caught
    with read() as db:
        assert db.scalars(select(word.text)).all() == []


def slow_commit(database: Database, seconds: float) -> None:
    """Make each commit that changed ``words`` take this long, in the server."""
    with database.write.begin() as connection:
        connection.execute(text("DROP TRIGGER IF EXISTS slow ON words"))
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                f"'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'"
            )
        )
        connection.execute(
            text(
                "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON words "
                "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"
            )
        )


def test_a_commit_that_has_begun_may_finish_within_the_grace(database: Database, word: Any) -> None:
    slow_commit(database, 0.5)
    with fail_after(0.3), transaction() as db:
        db.add(word(text="one"))
    with read() as db:
        assert db.scalars(select(word.text)).all() == ["one"]


def test_a_commit_that_does_not_end_is_of_unknown_outcome(database: Database, word: Any) -> None:
    slow_commit(database, GRACE + 20)
    began = monotonic()
    with pytest.raises(OutcomeUnknown), fail_after(0.3), transaction() as db:
        db.add(word(text="one"))
    assert monotonic() - began < 0.3 + GRACE + 1
    assert database.tally.counts()["dropped"] == 1
    with read() as db:  # and the pool goes on
        assert db.scalar(text("SELECT 1")) == 1


def test_a_connection_lost_in_a_commit_is_of_unknown_outcome(
    database: Database, admin: Engine, word: Any
) -> None:
    slow_commit(database, 20)
    raised: list[Exception] = []

    def work() -> None:
        try:
            with transaction() as db:
                db.add(word(text="one"))
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: active(admin) == ["COMMIT"], what="it commits")
    with admin.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query = 'COMMIT' AND state = 'active'"
            )
        )
    thread.join(10)
    assert [type(error) for error in raised] == [OutcomeUnknown]


def test_a_server_that_does_not_answer_costs_the_grace_and_the_connection(
    start: Callable[..., Database], url: str
) -> None:
    parsed = make_url(url)
    with Relay(parsed.port or 0) as relay:
        host, _, port = relay.address.partition(":")
        over_relay = parsed.set(host=host, port=int(port)).render_as_string(hide_password=False)
        database = start(database_url=over_relay)
        with read() as db:
            before = pid(db)
        relay.stall()
        began = monotonic()
        with pytest.raises(DatabaseSilent) as caught, fail_after(0.3), read() as db:
            db.execute(text("SELECT 1"))
        assert monotonic() - began < 0.3 + GRACE + 0.7
        assert caught.value.status == 503
        assert isinstance(caught.value, DatabaseAway)
        assert database.tally.counts()["dropped"] == 1
        relay.mend()
        with read() as db:
            assert pid(db) != before


def test_a_probe_of_a_silent_server_says_so_in_time(
    start: Callable[..., Database], url: str
) -> None:
    """Also where no deadline is near, as on the admin address; and then it recovers."""
    parsed = make_url(url)
    with Relay(parsed.port or 0) as relay:
        host, _, port = relay.address.partition(":")
        over_relay = parsed.set(host=host, port=int(port)).render_as_string(hide_password=False)
        database = start(database_url=over_relay)
        assert "not answered" not in (database.fault() or "")
        relay.stall()
        for _ in range(2):  # over the connection that it had, then in making another one
            database._probed = float("-inf")
            began = monotonic()
            assert "not answered" in (database.fault() or "")
            assert monotonic() - began < 1 + GRACE + 1
        relay.mend()
        database._probed = float("-inf")
        assert "not answered" not in (database.fault() or "")


def test_to_connect_takes_no_longer_than_the_scope_lasts(
    start: Callable[..., Database], url: str
) -> None:
    parsed = make_url(url)
    with Relay(parsed.port or 0) as relay:
        host, _, port = relay.address.partition(":")
        over_relay = parsed.set(host=host, port=int(port)).render_as_string(hide_password=False)
        start(database_url=over_relay)
        relay.stall()
        began = monotonic()
        # The first connection of the pool is the one that made the table: hold it.
        with read() as db:
            with pytest.raises(DatabaseSilent), fail_after(0.3):
                db.execute(text("SELECT 1"))
        assert monotonic() - began < 2
        relay.mend()


@pytest.mark.parametrize("last", ["statement", "commit"])
def test_a_deadline_whose_time_went_into_the_connect_is_the_databases(
    start: Callable[..., Database], url: str, word: Any, last: str
) -> None:
    """The network is back just before the deadline, which then passes between two steps."""
    parsed = make_url(url)
    with Relay(parsed.port or 0) as relay:
        host, _, port = relay.address.partition(":")
        over_relay = parsed.set(host=host, port=int(port)).render_as_string(hide_password=False)
        start(database_url=over_relay).write.dispose()  # so the first statement has to connect
        relay.stall()
        mend = threading.Timer(0.7, relay.mend)
        mend.start()
        with pytest.raises(DatabaseSilent), fail_after(1.0) as scope, transaction() as db:
            db.add(word(text="one"))
            db.flush()
            eventually(lambda: scope.over, what="the deadline passes")
            if last == "statement":
                db.execute(text("SELECT 1"))
        mend.join(5)


def test_a_server_that_is_slow_to_say_that_it_stopped_was_away(
    start: Callable[..., Database], url: str
) -> None:
    parsed = make_url(url)
    with Relay(parsed.port or 0) as relay:
        host, _, port = relay.address.partition(":")
        over_relay = parsed.set(host=host, port=int(port)).render_as_string(hide_password=False)
        start(database_url=over_relay)
        with transaction() as db:
            pid(db)
        relay.stall()
        mend = threading.Timer(0.3 + PROMPT + 0.3, relay.mend)
        mend.start()
        with pytest.raises(DatabaseSilent), fail_after(0.3), transaction() as db:
            db.execute(text("SELECT 1"))
        mend.join(5)


def test_0_of_1000_cancels_aimed_at_completion_hit_another_query(
    start: Callable[..., Database],
) -> None:
    """16 threads on 6 connections; every query that no scope ends is innocent."""
    database = start(database_pool_size=6, concurrency=6, database_pool_timeout=20)
    with read() as db:
        pid(db)
    wrong: list[str] = []
    cancelled = [0] * 16
    gate = threading.Barrier(16)

    def work(number: int) -> None:
        gate.wait(10)
        try:
            for turn in range(63):
                # Aimed at the end of a query of 2 ms, a little sooner or later each time.
                seconds = 0.0005 + 0.003 * ((turn * 16 + number) % 61) / 61
                with move_on_after(None) as scope:
                    with read() as db:
                        with move_on_after(seconds) as inner:
                            db.execute(text("SELECT pg_sleep(0.002)"))
                        cancelled[number] += inner.cancelled_caught
                        if db.scalar(text("SELECT 7")) != 7:
                            wrong.append("a wrong answer")
                if scope.cancelled_caught:
                    wrong.append("the outer scope was cancelled")
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert sum(cancelled) > 100
    assert database.tally.counts()["dropped"] == 0
    assert database.stats()["read_in_use"] == 0


def test_the_private_names_of_psycopg_are_where_they_were() -> None:
    """An upgrade that moves one of them fails here, and not in the middle of the night."""
    from psycopg import waiting
    from psycopg.errors import _WaitTimeout

    assert issubclass(_WaitTimeout, psycopg.OperationalError)
    assert list(inspect.signature(psycopg.Connection.wait).parameters) == [
        "self",
        "gen",
        "interval",
        "timeout",
    ]
    assert list(inspect.signature(psycopg.Connection._connect_gen).parameters) == ["conninfo"]
    for method in ("commit", "rollback", "_try_cancel"):
        assert "self.wait(" in inspect.getsource(getattr(psycopg.Connection, method)) or (
            "cancel_safe" in inspect.getsource(getattr(psycopg.Connection, method))
        )
    assert "_conn.wait(" in inspect.getsource(psycopg.Cursor.execute)
    assert callable(waiting.wait)


def test_a_generator_of_psycopg_can_be_waited_for_again(url: str) -> None:
    """What the ticks rest on."""
    from psycopg.errors import _WaitTimeout

    connection = psycopg.connect(url, autocommit=True)
    try:
        cursor = connection.cursor()
        gen = cursor._execute_gen("SELECT pg_sleep(0.2)")
        timeouts = 0
        while True:
            try:
                connection.wait(gen, timeout=0.01)
                break
            except _WaitTimeout:
                timeouts += 1
        assert timeouts > 2
        assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        connection.close()
