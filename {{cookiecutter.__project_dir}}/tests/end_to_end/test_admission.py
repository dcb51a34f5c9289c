"""What has waited too long before anybody could look at it is not run."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable

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


def everything(client: socket.socket) -> bytes:
    """What a server says until it ends the connection."""
    data = b""
    with client:
        while got := client.recv(65_536):
            data += got
    return data
