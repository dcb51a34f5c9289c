"""A query ends with its request: under a real gunicorn, seen from inside a real PostgreSQL.

The limits have a margin for a busy machine; what was measured is printed.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from ..servers.processes import PROJECT, eventually
from ..servers.relay import Relay
from ..servers.service import Service

if TYPE_CHECKING:
    import psycopg

Start = Callable[..., Service]

(OWNER,) = [p.name for p in (PROJECT / "src").iterdir() if (p / "app.py").is_file()]
APP = f"""
from sqlalchemy import text
from {OWNER}.app import create_app
from threadkit import TaskGroup, deadline
from threadkit.database import read

app = create_app()
kept = []


def query(seconds):
    with read() as db:
        return str(db.scalar(text(f"SELECT pg_backend_pid(), pg_sleep({{seconds}})")))


@app.get("/pid")
def pid():
    return query(0)


@app.get("/late")
@deadline(0.5)
def late():
    return query(5)


@app.get("/long/<int:seconds>")
@deadline(None)
def long(seconds):
    return query(seconds)


@app.get("/both")
@deadline(None)
def both():
    with TaskGroup() as group:
        group.start(query, 30)
        group.start(query, 30)
    return "done"


@app.get("/leak")
def leak():
    kept.append(read())
    return str(kept[-1].__enter__().scalar(text("SELECT pg_backend_pid()")))  # the leak
"""
LEAK = 1 + next(n for n, line in enumerate(APP.splitlines()) if "# the leak" in line)


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Callable[[str], Service]:
    """The app above, in one worker and on a database by its address."""
    (tmp_path / "queries.py").write_text(APP)

    def serve(url: str, **environ: str) -> Service:
        return start(
            *("-c", "gunicorn.conf.py", "queries:app"),
            PYTHONPATH=str(tmp_path),
            DATABASE_URL=url,
            WORKERS="1",
            # Far away, so that it is never the server's own limit that ends a query.
            DATABASE_STATEMENT_TIMEOUT="40",
            **environ,
        )

    return serve


Serve = Callable[..., Service]


@pytest.fixture
def server(postgresql_url: str) -> Iterator[psycopg.Connection[Any]]:
    """An onlooker's own connection."""
    import psycopg

    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        version = connection.info.server_version
        print(f"PostgreSQL {version // 10_000}.{version % 10_000}")
        yield connection


def running(server: psycopg.Connection[Any]) -> set[int]:
    """Backends that are at a query of the service's, whether or not somebody waits for it."""
    rows = server.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND state = 'active' AND query LIKE 'SELECT pg_backend_pid(), pg_sleep%'"
    )
    return {pid for (pid,) in rows}


def until_idle(server: psycopg.Connection[Any]) -> float:
    """Seconds until no query runs."""
    began = monotonic()
    eventually(lambda: not running(server), what="the query stops", seconds=10)
    return monotonic() - began


@contextmanager
def asking(service: Service, path: str) -> Iterator[socket.socket]:
    """A request of a client that leaves at the end of the block."""
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield connection


def timed(service: Service, path: str) -> tuple[int, float]:
    """The status, and the seconds that it took."""
    began = monotonic()
    status = service.ask("GET", path).status
    return status, monotonic() - began


def in_use(service: Service) -> int:
    """Connections that are lent."""
    database = service.ask("GET", "/debug/vars", admin=True).json()["stats"]["database"]
    return int(database["read_in_use"])


def milliseconds(times: list[float]) -> str:
    """For people."""
    return ", ".join(f"{1000 * seconds:.0f}" for seconds in times) + " ms"


def test_a_deadline_is_answered_in_time_and_ends_the_query(
    serve: Serve, postgresql_url: str, server: psycopg.Connection[Any]
) -> None:
    service = serve(postgresql_url)
    before = service.ask("GET", "/pid").data
    answers, stops = [], []
    for _ in range(5):
        status, took = timed(service, "/late")
        stops.append(until_idle(server))
        answers.append(took)
        assert status == 504
    print(f"a deadline of 500 ms: answered after {milliseconds(answers)}")
    print(f"idle after {milliseconds(stops)} more")
    assert 0.4 < statistics.median(answers) < 0.8
    assert statistics.median(stops) < 0.5
    # Stopped five times, and still of use.
    assert service.ask("GET", "/pid").data == before


def test_a_client_that_leaves_ends_its_query(
    serve: Serve, postgresql_url: str, server: psycopg.Connection[Any]
) -> None:
    service = serve(postgresql_url)
    stops = []
    for _ in range(3):
        with asking(service, "/long/5"):
            eventually(lambda: running(server), what="it runs")
        stops.append(until_idle(server))
    print(f"the client has left: idle after {milliseconds(stops)}")
    assert min(stops) < 0.25
    assert max(stops) < 2.5
    eventually(lambda: not in_use(service), what="the connection is back")


def test_a_worker_that_is_killed_takes_its_query_along(
    serve: Serve, postgresql_url: str, server: psycopg.Connection[Any]
) -> None:
    """Nobody is left to cancel it: the server looks for its client each second."""
    service = serve(postgresql_url)
    (worker,) = service.pids()
    with asking(service, "/long/30"):
        (backend,) = eventually(lambda: running(server), what="it runs")
        os.kill(worker, signal.SIGKILL)
        killed = monotonic()
        eventually(lambda: not exists(server, backend), what="the backend ends", seconds=15)
        took = monotonic() - killed
    print(f"the worker was killed: the backend is gone after {milliseconds([took])}")
    assert took < 2.5
    eventually(lambda: service.pids() - {worker}, what="a new worker answers")
    assert service.ask("GET", "/pid").status == 200


def exists(server: psycopg.Connection[Any], backend: int) -> bool:
    """Whether that backend lives, at work or not."""
    rows = server.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [backend])
    return rows.fetchone() is not None


def test_who_finds_no_free_connection_is_told_so_after_the_pools_wait(
    serve: Serve, postgresql_url: str, server: psycopg.Connection[Any]
) -> None:
    """One request of the two that may run holds both connections, by a fan-out."""
    wait = 0.5
    settings = {"CONCURRENCY": "2", "DATABASE_POOL_SIZE": "2", "DATABASE_POOL_TIMEOUT": str(wait)}
    service = serve(postgresql_url, **settings)
    times = []
    with asking(service, "/both"):
        eventually(lambda: len(running(server)) == 2, what="both connections are taken")
        for _ in range(3):
            began = monotonic()
            answer = service.ask("GET", "/pid")
            times.append(monotonic() - began)
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "connection" in answer.json()["detail"]
        assert len(running(server)) == 2
    print(f"a pool wait of 500 ms: refused after {milliseconds(times)}")
    assert wait * 0.9 < min(times) < wait + 0.4
    until_idle(server)
    eventually(lambda: service.ask("GET", "/pid").status == 200, what="service", seconds=5)


def test_a_network_that_swallows_everything_costs_a_request_a_second_at_the_most(
    serve: Serve, postgresql_url: str, server: psycopg.Connection[Any]
) -> None:
    """Beyond its deadline: on an open connection, and where it has to make one."""
    limit = 1.0
    port = urlsplit(postgresql_url).port
    assert port is not None
    open_: list[float] = []
    new: list[float] = []
    with Relay(port) as relay, ThreadPoolExecutor(1) as client:
        url = postgresql_url.replace(f"127.0.0.1:{port}", relay.address)
        service = serve(url, REQUEST_TIMEOUT=str(limit))
        for _ in range(3):
            eventually(lambda: service.ask("GET", "/pid").status == 200, what="it is whole")
            relay.stall()
            for times in (open_, new):
                pending = client.submit(timed, service, "/pid")
                lives = []
                while not pending.done():
                    lives.append(timed(service, "/livez"))
                    threading.Event().wait(0.02)  # leave the processor to who is measured
                status, took = pending.result(10)
                times.append(took)
                assert status in {503, 504}
                assert {status for status, _ in lives} == {200}
                assert statistics.median(took for _, took in lives) < 0.25
            relay.mend()
        print(
            f"deadline 1000 ms: answered after {milliseconds(open_)}; a new one {milliseconds(new)}"
        )
        assert min(open_) < limit + 1.2
        assert min(new) < limit + 1.2
        assert max(open_ + new) < limit + 1.2 + 3
        eventually(lambda: not in_use(service), what="the connections are back")


def test_a_session_that_a_handler_forgets_is_reported_and_its_connection_returns(
    serve: Serve, postgresql_url: str, tmp_path: Path
) -> None:
    service = serve(postgresql_url, CONCURRENCY="2", DATABASE_POOL_SIZE="2")
    backends = set()
    for _ in range(4):  # more than there are connections
        answer = service.ask("GET", "/leak")
        assert answer.status == 200
        backends.add(answer.data)
        eventually(lambda: not in_use(service), what="the connection is back", seconds=5)
    assert len(backends) == 1  # always the same one
    reports = [r for r in service.records() if "outlived its request" in r["event"]]
    assert len(reports) == 4
    line = f'File "{tmp_path / "queries.py"}", line {LEAK}, in leak'
    assert line in reports[0]["event"], reports[0]
