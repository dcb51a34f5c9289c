"""What has waited too long before anybody could look at it is not run."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..servers.example import example
from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]


def test_the_time_in_the_kernels_backlog_counts(start: Start) -> None:
    """A worker that stands still for a while finds requests that nobody waits for any more."""
    service = start(WORKERS="1")
    (worker,) = service.pids()
    since = len(service.records())
    clients = []
    os.kill(worker, signal.SIGSTOP)
    try:
        for seconds in ("0.3", "30"):
            client = socket.create_connection(("127.0.0.1", service.port), 10)
            clients.append(client)
            client.sendall(
                b"GET /v1/items HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"X-Request-Timeout: " + seconds.encode() + b"\r\n\r\n"
            )
        assert not select.select(clients, [], [], 0.8)[0]
    finally:
        os.kill(worker, signal.SIGCONT)
    late, patient = (everything(client) for client in clients)
    assert late.startswith(b"HTTP/1.1 503")
    assert b"Retry-After" in late
    assert json.loads(late.partition(b"\r\n\r\n")[2])["type"] == "urn:problem:expired-in-line"
    assert patient.startswith(b"HTTP/1.1 200")
    told = [r for r in service.records()[since:] if r["event"] == "request"]
    routes = {r["status"]: r["route"] for r in told}
    assert (routes[503], routes[200]) == (None, "/v1/items")  # it has not even been routed
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    assert 'http_requests_refused_total{reason="late"} 1.0' in text


GET = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


def test_the_time_in_line_counts_on_a_unix_socket_too(start: Start, tmp_path: Path) -> None:
    """The kernel says nothing of such a socket; the worker has a stamp of its own."""
    arguments, environ = example(tmp_path)
    path = tmp_path / "s"
    start(
        *arguments,
        ready=False,
        BIND=f"unix:{path}",
        WORKERS="1",
        CONCURRENCY="1",
        QUEUE_SIZE="4",
        REQUEST_TIMEOUT="20",
        QUEUE_TIMEOUT="10",
        **environ,
    )

    def send(target: bytes, extra: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(GET % target + extra + b"\r\n")
        return client

    eventually(path.exists, what="the socket is there")
    assert everything(send(b"/livez")).startswith(b"HTTP/1.1 200")
    running = send(b"/sleep/1.0")
    eventually(lambda: b'"running":1' in everything(send(b"/livez")), what="it runs")
    hasty, patient = send(b"/quick", b"X-Request-Timeout: 0.2\r\n"), send(b"/quick")
    assert everything(running).startswith(b"HTTP/1.1 200")
    late = everything(hasty)
    assert late.startswith(b"HTTP/1.1 503")
    assert json.loads(late.partition(b"\r\n\r\n")[2])["type"] == "urn:problem:expired-in-line"
    assert everything(patient).startswith(b"HTTP/1.1 200")


def test_what_is_sheddable_goes_first(start: Start, tmp_path: Path) -> None:
    arguments, environ = example(tmp_path)
    service = start(
        *arguments,
        WORKERS="1",
        CONCURRENCY="1",
        QUEUE_SIZE="4",
        REQUEST_TIMEOUT="20",
        QUEUE_TIMEOUT="10",
        **environ,
    )

    def send(target: bytes, waiting: int) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", service.port), 20)
        client.sendall(GET % target + b"\r\n")
        eventually(
            lambda: (
                [service.ask("GET", "/livez").json()["line"][n] for n in ("running", "waiting")]
                == [1, waiting]
            ),
            what="it runs or waits",
        )
        return client

    running = send(b"/sleep/2.0", 0)
    optional, *needed = (send(t, n) for t, n in ((b"/optional", 1), (b"/quick", 2), (b"/quick", 3)))
    # One more takes no place in the half full line: it hears so while the others still wait.
    assert service.ask("GET", "/optional?now").status == 503
    assert service.ask("GET", "/livez").json()["line"]["waiting"] == 3
    for client in (running, *needed):
        assert everything(client).startswith(b"HTTP/1.1 200")
    shed = everything(optional)
    assert shed.startswith(b"HTTP/1.1 503")
    assert b"Retry-After" in shed
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    assert 'http_requests_refused_total{reason="shed"} 2.0' in text
    # With nobody in line it is answered like any other.
    assert service.ask("GET", "/optional").status == 200


def test_aimd_lets_fewer_run_while_answers_take_longer(start: Start, tmp_path: Path) -> None:
    arguments, environ = example(tmp_path)
    service = start(
        *arguments,
        WORKERS="1",
        LIMITER="aimd",
        CONCURRENCY="10",
        REQUEST_TIMEOUT="20",
        QUEUE_TIMEOUT="10",
        **environ,
    )

    def places() -> float:
        text = service.ask("GET", "/metrics", admin=True).data.decode()
        (line,) = [n for n in text.splitlines() if n.startswith("http_requests_places ")]
        return float(line.split()[1])

    assert places() == 10
    with ThreadPoolExecutor(10) as several:
        for seconds, count in (("0.01", 60), ("0.5", 40)):
            answers = several.map(
                lambda path: service.ask("GET", path), [f"/sleep/{seconds}"] * count
            )
            assert {answer.status for answer in answers} == {200}
    assert places() < 10


def everything(client: socket.socket) -> bytes:
    """What a server says until it ends the connection."""
    data = b""
    with client:
        while got := client.recv(65_536):
            data += got
    return data
