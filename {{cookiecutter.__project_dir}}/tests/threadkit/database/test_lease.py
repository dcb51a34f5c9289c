"""A loan of the pool's: it always comes back, whole or not at all, and SQLAlchemy gets along."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord

from threadkit.database.lease import Lease
from threadkit.database.pool import FairPool

MakeEngine = Callable[..., Engine]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """One connection, to a file."""
    made = create_engine(f"sqlite:///{tmp_path}/lease.db", poolclass=FairPool, pool_size=1)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    yield made
    made.dispose()


def in_use(engine: Engine) -> float:
    assert isinstance(engine.pool, FairPool)
    return engine.pool.stats()["in_use"]


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM t")) or 0)


def test_what_was_not_committed_is_rolled_back(engine: Engine) -> None:
    lent = engine.raw_connection()
    assert isinstance(lent, Lease)
    lent.cursor().execute("INSERT INTO t VALUES (1)")
    assert in_use(engine) == 1
    lent.close()
    lent.close()  # a second time is nothing
    assert in_use(engine) == 0
    assert rows(engine) == 0


def test_one_that_is_forgotten_comes_back_rolled_back(engine: Engine) -> None:
    lent = engine.raw_connection()
    lent.cursor().execute("INSERT INTO t VALUES (1)")
    cycle: list[Any] = [lent]
    cycle.append(cycle)
    del lent, cycle
    gc.collect()
    assert in_use(engine) == 0
    assert rows(engine) == 0


def test_an_invalid_one_gives_back_its_place_alone(engine: Engine) -> None:
    with engine.connect() as connection:
        first = connection.connection.driver_connection
        connection.invalidate()
        assert in_use(engine) == 0
        assert connection.invalidated
    with engine.connect() as connection:
        assert connection.connection.driver_connection is not first
    assert in_use(engine) == 0


def test_one_that_cannot_be_reset_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError("no")

    first = engine.raw_connection()
    driver = first.driver_connection
    with monkeypatch.context() as patch:
        patch.setattr(engine.dialect, "do_rollback", fail)
        first.close()
    assert in_use(engine) == 0
    with engine.connect() as connection:
        assert connection.connection.driver_connection is not driver


def test_one_that_is_detached_is_the_owners_and_the_pool_goes_on(engine: Engine) -> None:
    kept = engine.raw_connection()
    kept.detach()
    assert kept.is_detached
    assert kept.is_valid
    assert in_use(engine) == 0
    assert rows(engine) == 0  # over another connection
    assert kept.cursor().execute("SELECT 7").fetchone() == (7,)
    kept.close()
    assert not kept.is_valid


def test_an_isolation_level_of_one_loan_is_not_the_next_ones(engine: Engine) -> None:
    with engine.connect() as connection:
        usual = connection.get_isolation_level()
        connection.execution_options(isolation_level="READ UNCOMMITTED")
        assert connection.get_isolation_level() != usual
    with engine.connect() as connection:
        assert connection.get_isolation_level() == usual


def test_info_lasts_as_long_as_the_connection(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.info["seen"] = True
    with engine.connect() as connection:
        assert connection.info["seen"]
        connection.invalidate()
    with engine.connect() as connection:
        assert "seen" not in connection.info


@pytest.mark.parametrize("name", ["checkout", "checkin", "reset"])
def test_who_listens_to_loans_hears_of_them(engine: Engine, name: str) -> None:
    heard: list[str] = []
    event.listen(engine, name, lambda *_: heard.append(name))
    rows(engine)
    assert heard == [name]
    assert in_use(engine) == 0


def test_the_private_names_of_sqlalchemys_loans_are_where_they_were() -> None:
    """An upgrade that moves one of them fails here, and not in the middle of the night."""
    assert issubclass(Lease, PoolProxiedConnection)
    ours = set(vars(Lease)) | set(Lease.__slots__)
    theirs = {name for name in vars(_ConnectionFairy) if not name.startswith("__")}
    # The rest is SQLAlchemy's own bookkeeping: a pool whose loans are ours does not ask for it.
    unknown = {"_checkin", "_checkout", "_checkout_existing", "_close", "_counter", "_echo"}
    unknown |= {"_finalizer", "_logger", "_reset", "connection", "pool"}
    assert {name for name in theirs if name not in unknown} <= ours
    assert "_close_special(" in inspect.getsource(Connection.close)
    for name in ("get_connection", "checkin", "_checkin_failed", "invalidate"):
        assert callable(getattr(_ConnectionRecord, name))
    assert "_fairy_was_created" in inspect.signature(_ConnectionRecord.checkin).parameters
    assert "finalize_callback" in _ConnectionRecord.__slots__
    source = inspect.getsource(Pool.__init__)
    assert "self._reset_on_return" in source
    assert callable(Pool._close_connection)
    assert "_ConnectionFairy._checkout(self)" in inspect.getsource(Pool.connect)
