"""Clients that leave, under a real gunicorn."""

from __future__ import annotations

import os
import random
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..servers import leavers
from ..servers.leavers import Notes, connect, read_answer, request
from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """Which requests were cancelled, and when."""
    return lambda: dict(leavers.notes(tmp_path))


@pytest.fixture
def service(start: Start, tmp_path: Path) -> Service:
    arguments, environ = leavers.leavers(tmp_path)
    return start(*arguments, **environ)


def statuses(service: Service) -> dict[str, int]:
    """By path, as the log has them."""
    return {r["path"]: r["status"] for r in service.records("request")}


def test_a_client_that_leaves_ends_its_request_within_milliseconds(
    service: Service, notes: Notes
) -> None:
    """While other clients are served; the limits have a margin for a busy machine."""
    stop = threading.Event()

    def others() -> None:
        while not stop.is_set():
            with connect(service.port) as connection, connection.makefile("rb") as answers:
                connection.sendall(request("/wait/other/0.02"))
                assert read_answer(answers).startswith(b"HTTP/1.1 200")

    left: dict[str, float] = {}

    def leave(number: int) -> None:
        name = f"leaver-{number}"
        with connect(service.port) as connection:
            connection.sendall(request(f"/wait/{name}/15.0"))
            assert not select.select([connection], [], [], 0.05 + 0.01 * (number % 7))[0]
            left[name] = time.monotonic()

    count = 100
    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(others) for _ in range(2)]
        try:
            list(pool.map(leave, range(count)))
            eventually(
                lambda: sum(r["status"] == 499 for r in service.records("request")) == count,
                what="all are logged",
            )
        finally:
            stop.set()
        for each in asking:
            each.result(10)
    seen = notes()
    # On a busy machine some leave before their handler has begun: they are not run at all.
    assert set(seen) <= set(left)  # and nobody else
    took = sorted(seen[name] - left[name] for name in seen)
    assert len(took) > count / 2
    print(f"p50 {took[len(took) // 2] * 1000:.1f} ms, p99 {took[-2] * 1000:.1f} ms")
    assert statistics.median(took) < 0.05
    assert took[-2] < 1
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    assert 'status="499"' in text


def test_a_stream_without_a_deadline_ends_when_its_client_leaves(
    service: Service, notes: Notes
) -> None:
    with connect(service.port) as connection:
        connection.sendall(request("/stream/radio"))
        data = b""
        while data.count(b"xxxxxxxxxx") < 3:
            data += connection.recv(4096)
        assert "radio" not in notes()
    eventually(lambda: "radio" in notes(), what="the stream ends", seconds=5)
    eventually(lambda: statuses(service).get("/stream/radio") == 499, what="it is logged")
    assert [r for r in service.records() if r["level"] in ("error", "critical")] == []


@pytest.mark.parametrize("begun", [True, False])
def test_half_a_close_is_a_disconnect_and_is_told_so(
    service: Service, notes: Notes, *, begun: bool
) -> None:
    with connect(service.port) as connection:
        connection.sendall(request("/wait/half/15.0"))
        if begun:
            assert not select.select([connection], [], [], 0.2)[0]
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096).startswith(b"HTTP/1.1 499")
    if begun:
        assert "half" in notes()


def test_who_stays_is_never_cancelled(service: Service, notes: Notes) -> None:
    """Kept alive, pipelined, with a body that nobody reads, and among others that leave."""
    until = time.monotonic() + 2

    def stay(number: int) -> None:
        with connect(service.port) as connection, connection.makefile("rb") as answers:
            while time.monotonic() < until:
                one, two = request(f"/wait/stay-{number}/0.01"), request("/livez")
                body = b"b" * 3000
                connection.sendall(one + two)
                assert read_answer(answers).startswith(b"HTTP/1.1 200")
                assert read_answer(answers).startswith(b"HTTP/1.1 200")
                unread = request(
                    f"/wait/stay-{number}/0.01", "Content-Length: 3000\r\n", body, "POST"
                )
                connection.sendall(unread)
                assert read_answer(answers).startswith(b"HTTP/1.1 200")

    def leave(number: int) -> int:
        chance, gone = random.Random(number), 0
        while time.monotonic() < until:
            with connect(service.port) as connection:
                connection.sendall(request("/wait/leave/0.02") * chance.randint(1, 2))
                connection.settimeout(chance.uniform(0.0001, 0.03))
                try:
                    connection.recv(1000)
                except TimeoutError:
                    gone += 1
        return gone

    def held() -> list[int]:
        """Descriptors and threads of every worker, none of which may grow."""
        text = [p for p in service.pids() if Path(f"/proc/{p}").exists()]
        return [
            max(len(os.listdir(f"/proc/{pid}/{what}")) for pid in text) for what in ("fd", "task")
        ]

    before = held()
    with ThreadPoolExecutor(8) as pool:
        staying = [pool.submit(stay, n) for n in range(3)]
        leaving = [pool.submit(leave, n) for n in range(3)]
        for each in staying:
            each.result(20)
        assert sum(each.result(20) for each in leaving) > 50
    assert not [name for name in notes() if name.startswith("stay")]
    # Threads of the pool and of the callbacks come with the load, at most so many a worker.
    eventually(
        lambda: held()[0] <= before[0] + 2 and held()[1] <= before[1] + 28 + 4,
        what="nothing is leaked",
        seconds=15,
    )
