"""gunicorn's own worker serves the application as well, with less protection."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..servers import leavers
from ..servers.clients import ask, connect, read_answer, silent
from ..servers.example import example
from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]

GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def service(start: Start, tmp_path: Path) -> Service:
    arguments, environ = example(tmp_path)
    return start(
        *arguments,
        WORKER_CLASS="gthread",
        WORKERS="1",
        CONCURRENCY="2",
        QUEUE_SIZE="2",
        QUEUE_TIMEOUT="1",
        **environ,
    )


def test_it_answers_and_ends_in_order(service: Service) -> None:
    with connect(service.port) as c, c.makefile("rb") as stream:
        c.sendall(GET + b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        first, second = read_answer(stream), read_answer(stream)
    assert first is not None
    assert second is not None
    assert (first.status, first.headers["x-request-id"] != "") == (200, True)
    assert second.body == b"hello"
    assert service.ask("GET", "/readyz").status == 200
    assert service.ask("POST", "/echo", body=b"x" * (1024 * 1024 + 1)).status == 413
    both = (
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    )
    refused = ask(service.port, both + b"0\r\n\r\n")
    assert refused is not None
    assert refused.status == 400
    service.http.clear()
    service.send(signal.SIGTERM)
    assert service.wait(seconds=15) == 0
    assert service.left_behind() == []


def test_too_many_are_refused_and_health_is_answered(service: Service) -> None:
    slow = b"GET /sleep/2.5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        running = silent(stack, service.port, 2, slow)
        eventually(lambda: _admission(service)["inside"] == 2, what="both run")
        waiting = silent(stack, service.port, 2, slow)
        eventually(lambda: _admission(service)["waiting"] == 2, what="two wait")
        for _ in range(5):
            full = ask(service.port, GET)
            assert full is not None
            assert full.status == 503
            assert full.headers["retry-after"]
            assert service.ask("GET", "/livez").status == 200
        statuses = [read_answer(c.makefile("rb")) for c in (*waiting, *running)]
        assert [a and a.status for a in statuses] == [503, 503, 200, 200]


def _admission(service: Service) -> dict[str, int]:
    stats: dict[str, int] = service.ask("GET", "/debug/vars", admin=True).json()["stats"][
        "admission"
    ]
    return stats


def test_who_leaves_ends_the_own_request(start: Start, tmp_path: Path) -> None:
    arguments, environ = leavers.leavers(tmp_path)
    service = start(*arguments, WORKER_CLASS="gthread", WORKERS="1", **environ)

    def runs(path: str) -> bool:
        requests = service.ask("GET", "/debug/vars", admin=True).json()["requests"]["list"]
        # One that has not come to its handler yet would leave without a note.
        return any(r["path"] == path and "leavers.py" in (r["at"] or "") for r in requests)

    def leave(number: int) -> None:
        path = f"/wait/gone-{number}/15.0"
        with connect(service.port) as c:
            c.sendall(leavers.request(path))
            eventually(lambda: runs(path), what="it runs")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(leave, range(4)))
        assert service.ask("GET", "/wait/stay/0.1").status == 200
    eventually(lambda: len(leavers.notes(tmp_path)) == 4, what="they are cancelled", seconds=5)
    assert {name for name, _ in leavers.notes(tmp_path)} == {f"gone-{n}" for n in range(4)}
