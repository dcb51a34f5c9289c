"""The capacity budget is compared with what a real server allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from threadkit.database import Database
from threadkit.database.capacity import connections_allowed, is_limited
from threadkit.observability import metrics
from threadkit.server.capacity import Capacity, needed, warning
from threadkit.settings import Settings
from threadkit.testing import no_leaked_threads  # noqa: F401 - autouse

NewDatabase = Callable[..., str]


def test_a_reload_has_twice_the_workers_and_each_has_two_pools() -> None:
    assert needed(workers=2, pool=8) == 64


def test_what_fits_is_no_warning_and_what_does_not_names_both_numbers_and_the_remedy() -> None:
    assert warning(2, 8, 64) is None
    told = warning(2, 8, 63)
    assert told is not None
    assert "64 connections (2 workers x (8 + 8) x 2)" in told
    assert "allows 63" in told
    assert "DATABASE_POOL_SIZE" in told


def database(url: str) -> Database:
    made = Database(Settings(database_url=url, database_pool_size=70), service="test")
    made.start()
    return made


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_tells_its_limit(new_database: NewDatabase, kind: str) -> None:
    asked = database(new_database(kind))
    try:
        assert is_limited(asked)
        allowed = connections_allowed(asked)
        assert allowed is not None
        assert 10 < allowed < 100_000
    finally:
        asked.close()


def test_a_file_has_no_limit(tmp_path: Path) -> None:
    asked = database(f"sqlite:///{tmp_path}/x.db")
    assert not is_limited(asked)
    capacity = Capacity(asked.settings, asked, folder=lambda: tmp_path)
    capacity.check(2)
    assert capacity._thread is None
    asked.close()


def test_one_worker_asks_for_all_and_says_what_is_too_many(
    postgresql_url: str, tmp_path: Path
) -> None:
    asked = database(postgresql_url)
    first, second = (Capacity(asked.settings, asked, folder=lambda: tmp_path) for _ in range(2))
    with capture_logs() as lines:
        first.start()
        first.check(3)
        assert first._thread is not None
        first._thread.join(20)
        second.check(3)
    assert second._thread is None
    first.close()
    allowed = connections_allowed(asked)
    asked.close()
    assert [line["log_level"] for line in lines] == ["warning"]
    assert (
        f"840 connections (3 workers x (70 + 70) x 2) and the database allows {allowed}"
        in (lines[0]["event"])
    )
    assert metrics.CONNECTIONS_NEEDED._value.get() == 840
    assert metrics.CONNECTIONS_ALLOWED._value.get() == allowed


def test_a_database_that_is_away_is_asked_again_and_does_not_hold_up_the_end(
    tmp_path: Path,
) -> None:
    asked = database("postgresql://nobody@127.0.0.1:1/none")
    capacity = Capacity(asked.settings, asked, folder=lambda: tmp_path, again=60)
    with capture_logs() as lines:
        capacity.check(2)
        capacity.close()
    (line,) = lines
    assert "cannot be used" in line["event"]
    assert "refused" in line["reason"]
    asked.close()
