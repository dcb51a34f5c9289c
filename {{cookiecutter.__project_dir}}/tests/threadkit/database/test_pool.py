"""The pool: bounded, fair, no longer than there is time; one dead connection is one dead one."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import Pool

from threadkit.concurrency import Cancelled, CancelScope, DeadlineExceeded, fail_after
from threadkit.database.faults import PoolExhausted, PoolExpired
from threadkit.database.pool import FairPool

from ...servers.processes import PROJECT, eventually

MakeEngine = Callable[..., Engine]


@pytest.fixture
def engine_of(tmp_path: Path) -> Iterator[MakeEngine]:
    """Engines with the pool under test, on a file."""
    made: list[Engine] = []

    def make(size: int = 1, timeout: float = 10.0, **options: Any) -> Engine:
        made.append(
            create_engine(
                f"sqlite:///{tmp_path}/pool.db",
                poolclass=FairPool,
                pool_size=size,
                pool_timeout=timeout,
                connect_args={"check_same_thread": False},
                **options,
            )
        )
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def stats(engine: Engine) -> Any:
    assert isinstance(engine.pool, FairPool)
    return engine.pool.stats()


def in_line(engine: Engine, work: Callable[[], None]) -> threading.Thread:
    """A thread that has come to wait for a connection."""
    before = stats(engine)["waiting"]
    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: stats(engine)["waiting"] > before, what="it stands in line")
    return thread


def test_first_come_first_served(engine_of: MakeEngine) -> None:
    engine = engine_of()
    served: list[int] = []

    def work(number: int) -> None:
        with engine.connect():
            served.append(number)

    with engine.connect():
        threads = [in_line(engine, lambda n=number: work(n)) for number in range(8)]  # type: ignore[misc]
    for thread in threads:
        thread.join(10)
    assert served == list(range(8))
    assert stats(engine)["in_use"] == 0


def test_who_leaves_and_comes_back_stands_behind_those_in_line(engine_of: MakeEngine) -> None:
    engine = engine_of()
    served: list[str] = []

    def work() -> None:
        with engine.connect():
            served.append("the one in line")

    with engine.connect():
        thread = in_line(engine, work)
    with engine.connect():
        served.append("the one who came back")
    thread.join(10)
    assert served == ["the one in line", "the one who came back"]


def test_the_wait_is_bounded_and_then_refused(engine_of: MakeEngine) -> None:
    engine = engine_of(timeout=0.1)
    with engine.connect():
        began = monotonic()
        with pytest.raises(PoolExhausted) as caught:
            engine.connect()
        assert 0.09 < monotonic() - began < 2
    assert caught.value.status == 503
    assert caught.value.retry_after
    assert stats(engine)["exhausted"] == 1


def test_a_deadline_in_line_is_both_errors(engine_of: MakeEngine) -> None:
    engine = engine_of()
    with engine.connect():
        began = monotonic()
        with pytest.raises(PoolExpired) as caught, fail_after(0.1):
            engine.connect()
        assert monotonic() - began < 5
    assert isinstance(caught.value, DeadlineExceeded)
    assert caught.value.status == 503


def test_a_cancelled_scope_leaves_the_line(engine_of: MakeEngine) -> None:
    engine = engine_of()
    scope = CancelScope()
    raised: list[Exception] = []

    def work() -> None:
        with scope:
            try:
                engine.connect()
            except Cancelled as error:
                raised.append(error)
                raise

    with engine.connect():
        thread = in_line(engine, work)
        scope.cancel("the client left")
        thread.join(5)
        assert stats(engine)["waiting"] == 0
    assert [str(error) for error in raised] == ["the client left"]
    with engine.connect():  # and nothing was lost
        assert stats(engine)["in_use"] == 1


def test_a_place_that_cannot_be_used_goes_to_the_next_in_line(engine_of: MakeEngine) -> None:
    """Where a connection cannot be made, those in line try for themselves, and learn why."""
    gate = threading.Event()
    reached = threading.Event()

    def fail() -> Any:
        reached.set()
        gate.wait(10)
        msg = "no such server"
        raise OSError(msg)

    engine = engine_of(creator=fail)
    raised: list[str] = []

    def work() -> None:
        try:
            engine.connect()
        except OSError as error:
            raised.append(str(error))

    first = threading.Thread(target=work)
    first.start()
    assert reached.wait(5)
    second = in_line(engine, work)
    gate.set()
    for thread in (first, second):
        thread.join(5)
    assert raised == ["no such server"] * 2
    assert stats(engine)["in_use"] == 0


def test_a_connection_that_the_collector_brings_back_meets_no_lock(engine_of: MakeEngine) -> None:
    """It may run in the middle of the pool's own work, in the same thread."""
    engine = engine_of()
    connection = engine.connect()
    assert isinstance(engine.pool, FairPool)
    done = threading.Event()
    pool = engine.pool

    def work() -> None:
        with pool._lock:
            connection.close()
        done.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert done.wait(5)
    thread.join(5)


def test_what_is_in_use_while_the_pool_is_disposed_is_closed_when_it_comes_back(
    engine_of: MakeEngine,
) -> None:
    engine = engine_of()
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        engine.dispose()
    with pytest.raises(Exception, match="closed"):
        driver.execute("SELECT 1")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_16_threads_share_6_connections_evenly(engine_of: MakeEngine) -> None:
    """SQLAlchemy's own pool gave one thread 1 turn and another one 2,261."""
    engine = engine_of(size=6)
    turns = [0] * 16
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            with engine.connect():
                stop.wait(0.003)
            turns[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    eventually(lambda: sum(turns) > 1600, what="1,600 turns")
    stop.set()
    for thread in threads:
        thread.join(10)
    assert max(turns) <= 2 * min(turns), turns


def test_a_killed_backend_is_replaced_and_costs_nobody_else(
    new_database: Callable[..., str],
) -> None:
    pytest.importorskip("psycopg")
    from threadkit.database.dialect import dialect_for
    from threadkit.database.guard import Tally, guard

    url = make_url(new_database("postgresql", migrated=False)).set(drivername="postgresql+psycopg")
    dialect = dialect_for(url.render_as_string(hide_password=False))
    engine = create_engine(url, poolclass=FairPool, pool_size=2, alive=dialect.alive)
    tally = Tally()
    guard(engine, dialect, tally)
    ask = text("SELECT pg_backend_pid()")
    try:
        with engine.connect() as one, engine.connect() as two:
            first, second = one.scalar(ask), two.scalar(ask)
        admin = create_engine(url)
        with admin.connect() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend({first}, 5000)"))
        admin.dispose()
        with engine.connect() as one, engine.connect() as two:
            now = {one.scalar(ask), two.scalar(ask)}
        assert second in now
        assert first not in now
        assert tally.counts()["invalidations"] == 1
        # And one that goes away under a query takes nobody along either.
        with engine.connect() as one, pytest.raises(Exception, match="terminat"):
            one.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        with engine.connect() as one, engine.connect() as two:
            after = {one.scalar(ask), two.scalar(ask)}
        assert len(after & now) == 1
    finally:
        engine.dispose()


FORKS = """
import os, sys
from sqlalchemy import text
from threadkit import runtime as runtimes
from threadkit.database import Database, read
from threadkit.runtime import Runtime
from threadkit.settings import Settings

runtime = Runtime(Settings(database_url=sys.argv[1], concurrency=2, database_pool_size=2))
runtime.add("database", Database(runtime.settings, service="forks"))
runtimes.install(runtime)

def backend():
    with read() as db:
        return db.scalar(text("SELECT pg_backend_pid()"))

mine = backend()
child = os.fork()
if child == 0:
    theirs = {backend() for _ in range(10)}
    os._exit(0 if mine not in theirs else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert {backend() for _ in range(10)} == {mine}
"""


def test_a_fork_leaves_each_process_its_own_connections(new_database: Callable[..., str]) -> None:
    """As under gunicorn --preload, with an app that has used its database before the fork."""
    pytest.importorskip("psycopg")
    done = subprocess.run(
        [sys.executable, "-c", FORKS, new_database("postgresql", migrated=False)],
        cwd=PROJECT / "src",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_private_names_of_sqlalchemys_pool_are_where_they_were() -> None:
    """An upgrade that moves one of them fails here, and not in the middle of the night."""
    for name in ("_do_get", "_do_return_conn", "_create_connection", "recreate", "dispose"):
        assert callable(getattr(Pool, name)), name
    assert "pool._do_get()" in inspect.getsource(sys.modules[Pool.__module__])
    assert "_do_return_conn(record)" in inspect.getsource(Pool._return_conn)
    assert set(inspect.signature(Pool.__init__).parameters) == {
        "self", "creator", "recycle", "echo", "logging_name", "reset_on_return", "events",
        "dialect", "pre_ping", "_dispatch",
    }  # fmt: skip
    for name in ("_creator", "_recycle", "_orig_logging_name", "_reset_on_return", "_pre_ping"):
        assert hasattr(FairPool(lambda: None), name), name
