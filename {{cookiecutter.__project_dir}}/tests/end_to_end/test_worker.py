"""The worker on the wire: what costs a thread, what is refused, and what HTTP promises."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..servers.clients import Answer, ask, connect, read_answer, silent
from ..servers.example import example
from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]

GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_HEAD = b"GET /quick HTTP/1.1\r\nHost: x\r\nX-Half: y"
HALF_BODY = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
MIB = 1024 * 1024
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Start:
    """One worker that serves the example."""
    arguments, environ = example(tmp_path)

    def serve(**settings: str) -> Service:
        return start(*arguments, **{"WORKERS": "1", **environ, **settings})

    return serve


def problem(answer: Answer | None, status: int) -> dict[str, Any]:
    """The document of an early answer, which must be like any other."""
    assert answer is not None
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail"} <= document.keys()
    return document


def test_http_is_spoken_as_it_should_be(serve: Start) -> None:
    service = serve()
    with connect(service.port) as c, c.makefile("rb") as stream:
        # Pipelined, all in one piece, one of them chunked and one with a body that nobody reads.
        unread = b"GET /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        c.sendall(GET + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + unread + HALF_BODY + b"world" + GET)
        answers = [read_answer(stream) for _ in range(5)]
        assert [a and a.status for a in answers] == [200] * 5
        assert [answers[1] and answers[1].body, answers[3] and answers[3].body] == [
            b"abc",
            b"helloworld",
        ]
        # Kept alive, HEAD, and a stream.
        c.sendall(b"HEAD /bytes/100 HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        lines = [stream.readline() for _ in range(3)]
        assert b" 200 " in lines[0]
        while stream.readline().strip():
            pass
        kept = read_answer(stream)
        assert kept is not None
        assert kept.json() == {"quick": True}
        c.sendall(b"GET /stream/3 HTTP/1.1\r\nHost: x\r\n\r\n")
        streamed = read_answer(stream)
        assert streamed is not None
        assert streamed.body == b"0\n1\n2\n"
        # The client waits to be told to go on.
        c.sendall(HALF_BODY.replace(b"\r\n\r\nhello", b"\r\nExpect: 100-continue\r\n\r\n"))
        go_on = read_answer(stream)
        assert go_on is not None
        assert go_on.status == 100
        c.sendall(b"helloworld")
        echoed = read_answer(stream)
        assert echoed is not None
        assert echoed.body == b"helloworld"
        c.sendall(GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        last = read_answer(stream)
        assert last is not None
        assert last.headers["connection"] == "close"
        assert stream.read() == b""
    old = service.raw(b"GET /quick HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.0 200 ")


def test_a_large_body_is_read_and_a_larger_one_is_413(serve: Start) -> None:
    service = serve(MAX_BODY_BYTES=str(3 * 1024 * 1024))
    body = bytes(range(256)) * 4 * 2048
    assert service.ask("POST", "/echo", body=body).data == body
    chunks = (body[i : i + 50_000] for i in range(0, len(body), 50_000))
    assert service.ask("POST", "/echo", body=chunks, chunked=True).data == body
    announced = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3145729\r\n\r\n"
    problem(ask(service.port, announced), 413)
    unannounced = CHUNKED + b"".join(b"10000\r\n" + b"x" * 65_536 + b"\r\n" for _ in range(50))
    problem(ask(service.port, unannounced), 413)
    # Where the next request would begin is not known, so there is none on this connection.
    for request in (announced + GET, unannounced + GET):
        with connect(service.port) as c, c.makefile("rb") as stream:
            c.sendall(request)
            refused = read_answer(stream)
            assert problem(refused, 413)
            assert refused is not None
            assert refused.headers["connection"] == "close"
            assert stream.read() == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"GET /quick HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /quick HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET /quick HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /quick HTTP/1.1\r\nX: a\rb\r\n\r\n", 400),
        (b"GET /quick HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /quick\x00 HTTP/1.1\r\n\r\n", 400),
        (b"GET /quick HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /quick HTTP/1.1\r\nX: y\r\n\r\n", 400),
        (b"GET /quick HTTP/1.1\r\nHost: a b/@\r\n\r\n", 400),
        (b"GET http:///quick HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1" + b"0" * 20 + b"\r\n\r\n", 413),
        (b"GET /quick HTTP/2.0\r\n\r\n", 505),
        (b"GET /quick HTTP/1.1\r\nExpect: a miracle\r\n\r\n", 417),
        (b"GET /quick HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    ],
)
def test_what_is_no_request_is_refused_like_any_other(
    shared: Service, request_: bytes, status: int
) -> None:
    document = problem(ask(shared.port, request_), status)
    eventually(
        lambda: [r for r in shared.records("request") if r["request_id"] == document["request_id"]],
        what="it is logged",
    )
    counted = shared.ask("GET", "/metrics", admin=True).data.decode()
    assert f'route="unmatched",status="{status}"' in counted


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]) -> Any:
    """One service for all that does not change it."""
    folder = tmp_path_factory.mktemp("shared")
    arguments, environ = example(folder)
    service = Service(
        folder / "service",
        {"WORKERS": "1", "DATABASE_URL": new_database("sqlite"), **environ},
        arguments,
    )
    yield service.wait_until_ready()
    assert service.stop() == 0
    assert service.left_behind() == []


def test_garbage_and_truncated_requests_leave_it_well(shared: Service) -> None:
    for said in (b"GET /qu", HALF_BODY, b"\r\n\r\n\r\n", bytes(range(256)), b""):
        with connect(shared.port) as c:
            c.sendall(said)
            c.shutdown(socket.SHUT_WR)
            while c.recv(65_536):
                pass
    assert shared.ask("GET", "/quick").status == 200
    assert not [r for r in shared.records() if r["level"] == "error"]


def test_slow_clients_cost_no_thread(serve: Start) -> None:
    service = serve(CONCURRENCY="2", QUEUE_SIZE="2")
    with ExitStack() as stack:
        for said in (b"", HALF_HEAD, HALF_BODY):
            silent(stack, service.port, 60, said)
        for _ in range(50):
            assert service.ask("GET", "/quick").status == 200
            assert service.ask("GET", "/livez").status == 200
        # Nobody waited for anybody: all of it in less than one of their time limits.
        slowest = max(r["duration_ms"] for r in service.records("request"))
        assert slowest < 5000


def test_who_takes_too_long_hears_408_and_who_said_nothing_nothing(serve: Start) -> None:
    service = serve(HEADER_TIMEOUT="0.5", BODY_TIMEOUT="0.5")
    with ExitStack() as stack:
        (quiet,) = silent(stack, service.port, 1)
        (head,) = silent(stack, service.port, 1, HALF_HEAD)
        (body,) = silent(stack, service.port, 1, HALF_BODY)
        for late in (head, body):
            problem(read_answer(late.makefile("rb")), 408)
        assert quiet.recv(1) == b""
    # Sending a little now and then does not help.
    with connect(service.port) as drip:
        drip.sendall(b"GET /quick HTTP/1.1\r\n")
        stop = threading.Event()

        def drop() -> None:
            while not stop.wait(0.1):
                try:
                    drip.sendall(b"X: y\r\n")
                except OSError:
                    return

        with ThreadPoolExecutor(1) as dripping:
            dripping.submit(drop)
            try:
                problem(read_answer(drip.makefile("rb")), 408)
            finally:
                stop.set()


def test_who_does_not_close_after_the_last_answer_costs_nobody_anything(serve: Start) -> None:
    """gunicorn's own worker waits for each of them on its main thread."""
    service = serve(CONCURRENCY="1")
    with ExitStack() as stack:
        last = GET.replace(b"Host: x", b"Host: x\r\nConnection: close")
        for _ in range(30):
            (lingering,) = silent(stack, service.port, 1, last)
            answer = read_answer(lingering.makefile("rb"))
            assert answer is not None
            assert answer.status == 200
        # Not within two seconds, which is what they are given to close: all in one go.
        assert connections(service)["leaving"] > 0
        for _ in range(20):
            assert service.ask("GET", "/quick").status == 200
        eventually(lambda: connections(service)["leaving"] == 0, what="they are closed")


def test_a_stream_lasts_as_long_as_its_own_limit_says(serve: Start) -> None:
    service = serve(REQUEST_TIMEOUT="1")
    unlimited = ask(service.port, b"GET /drip/15 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert unlimited is not None
    assert unlimited.body == b"None\n" * 15
    # Its head is sent, so all that can be said is that it did not end as it should.
    limited = service.raw(b"GET /limited/15 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert limited.startswith(b"HTTP/1.1 200 ")
    assert not limited.endswith(b"0\r\n\r\n")
    assert 1 < limited.count(b"\n\r\n") < 12


def test_an_answer_that_falls_short_ends_its_connection(serve: Start) -> None:
    """The client would take the beginning of the next answer for the rest of this one."""
    service = serve()
    said = service.raw(b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    assert said.endswith(b"\r\n\r\nabc")
    assert [r["path"] for r in service.records("the answer is shorter than its Content-Length")]
    head = b"HEAD /bytes/5 HTTP/1.1\r\nHost: x\r\n\r\n" + GET
    with connect(service.port) as c:
        c.sendall(head)
        said = b""
        while b'{"quick":true}' not in said:
            said += c.recv(65_536) or b"(the end)" + b'{"quick":true}'
        assert b"(the end)" not in said


def test_who_reads_too_slowly_is_let_go(serve: Start) -> None:
    service = serve(WRITE_TIMEOUT="0.5", CONCURRENCY="1", QUEUE_TIMEOUT="2")
    with connect(service.port) as lazy:
        lazy.sendall(b"GET /bytes/50000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: service.records("a slow client was let go"), what="it is let go")
        assert service.ask("GET", "/quick").status == 200


def test_too_many_connections_drop_the_longest_silent_one(serve: Start) -> None:
    service = serve(MAX_CONNECTIONS="1")
    with ExitStack() as stack:
        first, *_ = silent(stack, service.port, 300)
        assert service.ask("GET", "/readyz").status == 200
        assert first.recv(1) == b""


def test_unfinished_requests_share_a_budget_of_memory(serve: Start) -> None:
    """Bodies that stop a byte before their end are held in the worker, and nobody's thread."""
    service = serve(MAX_UNFINISHED_BYTES=str(4 * MIB))
    (pid,) = service.pids()
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
    announced = head + b"Content-Length: %d\r\n\r\n" % MIB + b"x" * (MIB - 1)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % MIB + b"x" * (MIB - 1)
    before = memory(pid)
    with ExitStack() as stack:
        first, *_ = silent(stack, service.port, 15, announced)
        silent(stack, service.port, 15, chunked)
        # Who sends its body in one go is served among them.
        assert service.ask("POST", "/echo", body=b"y" * (MIB - 100)).status == 200
        eventually(lambda: connections(service)["unfinished_bytes"] > 2 * MIB, what="it holds some")
        assert connections(service)["unfinished_bytes"] <= 4 * MIB
        assert memory(pid) - before < 16 * MIB
        eventually(lambda: refused(service, "memory") >= 26, what="the others are refused")
        problem(read_answer(first.makefile("rb")), 503)
    eventually(lambda: connections(service)["unfinished_bytes"] == 0, what="all is given back")


def memory(pid: int) -> int:
    """Bytes that the process has in memory."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def connections(service: Service) -> dict[str, int]:
    """What its only worker says of its connections."""
    stats: dict[str, int] = service.ask("GET", "/debug/vars", admin=True).json()["stats"][
        "connections"
    ]
    return stats


def refused(service: Service, reason: str) -> float:
    """How many were refused for this reason."""
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    name = f'http_requests_refused_total{{reason="{reason}"}} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if name in line)


def test_a_full_line_is_503_at_once_and_health_does_not_stand_in_it(serve: Start) -> None:
    service = serve(CONCURRENCY="2", QUEUE_SIZE="2", QUEUE_TIMEOUT="1")
    with ExitStack() as stack:
        running = silent(stack, service.port, 2, b"GET /sleep/2.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: _line(service)["running"] == 2, what="both run")
        waiting = silent(stack, service.port, 2, GET)
        eventually(lambda: _line(service)["waiting"] == 2, what="two wait")
        for _ in range(5):
            answer = ask(service.port, GET.replace(b"Host", b"X-Request-ID: mine\r\nHost"))
            assert answer is not None
            assert problem(answer, 503)["request_id"] == "mine"
            assert answer.headers["retry-after"] == "1"
            assert service.ask("GET", "/readyz").status == 200
        for expired in waiting:
            problem(read_answer(expired.makefile("rb")), 503)
        for answered in running:
            done = read_answer(answered.makefile("rb"))
            assert done is not None
            assert done.status == 200
    # The last byte of an answer is there a moment before its place is free.
    eventually(lambda: _line(service)["running"] == 0, what="nobody runs any more")
    line = _line(service)
    assert (line["refused"], line["expired"]) == (5, 2)


def _line(service: Service) -> dict[str, int]:
    line: dict[str, int] = service.ask("GET", "/livez").json()["line"]
    return line


def test_a_stop_takes_in_who_has_connected_and_finishes_who_runs(serve: Start) -> None:
    service = serve(DRAIN_DELAY="3", CONCURRENCY="4", MAX_REQUEST_TIMEOUT="3")
    with ExitStack() as stack:
        (running,) = silent(stack, service.port, 1, b"GET /sleep/4.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: _line(service)["running"] == 1, what="it runs")
        service.send(signal.SIGTERM)
        eventually(lambda: _readiness(service) == 503, what="readiness turns false")
        late = ask(service.port, GET)
        assert late is not None
        assert (late.status, late.headers["connection"]) == (200, "close")
        done = read_answer(running.makefile("rb"))
        assert done is not None
        assert done.status == 200
    assert service.wait(seconds=15) == 0
    (drained,) = service.records("worker drained")
    assert drained["dropped_requests"] == []


def test_who_is_cut_off_by_a_stop_still_waits_and_hears_503(serve: Start) -> None:
    service = serve()
    with ExitStack() as stack:
        (running,) = silent(stack, service.port, 1, b"GET /sleep/60.0 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: _line(service)["running"] == 1, what="it runs")
        service.http.clear()
        service.send(signal.SIGTERM)
        cut_off = read_answer(running.makefile("rb"))
    assert problem(cut_off, 503)["type"] == "urn:problem:cancelled"
    assert cut_off is not None
    assert cut_off.headers["retry-after"] == "1"
    assert service.wait(seconds=15) == 0
    (drained,) = service.records("worker drained")
    (told,) = [r for r in service.records("request") if r["path"] == "/sleep/60.0"]
    (named,) = drained["dropped_requests"]
    assert (told["status"], told["request_id"]) == (503, named["id"])


def test_a_stop_waits_for_background_work(serve: Start, tmp_path: Path) -> None:
    service = serve()
    assert service.ask("POST", "/later/1.5/done").status == 200
    service.http.clear()
    service.send(signal.SIGTERM)
    assert service.wait(seconds=15) == 0
    assert (tmp_path / "done").exists()


def _readiness(service: Service) -> int | None:
    answer = ask(service.port, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    return answer and answer.status


def test_max_requests_replaces_a_worker_and_loses_nothing(start: Start, tmp_path: Path) -> None:
    arguments, environ = example(tmp_path)
    service = start(*arguments, "--max-requests", "50", WORKERS="2", **environ)

    def one(_: int) -> int | None:
        answer = ask(service.port, GET)
        return answer and answer.status

    with ThreadPoolExecutor(4) as several:
        assert set(several.map(one, range(300))) == {200}

        def several_pids() -> bool:
            assert set(several.map(one, range(20))) == {200}
            return len({r["pid"] for r in service.records("request")}) > 2

        eventually(several_pids, what="another worker serves", seconds=30)


def test_a_unix_socket_is_served(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    arguments, environ = example(tmp_path)
    service = start(*arguments, ready=False, BIND=f"unix:{path}", WORKERS="1", **environ)
    eventually(path.exists, what="the socket is there")
    with socket.socket(socket.AF_UNIX) as c:
        c.settimeout(10)
        c.connect(str(path))
        c.sendall(GET + HALF_BODY + b"world")
        stream = c.makefile("rb")
        first, second = read_answer(stream), read_answer(stream)
        assert first is not None
        assert second is not None
        assert (first.status, second.body) == (200, b"helloworld")
    assert service.stop() == 0
