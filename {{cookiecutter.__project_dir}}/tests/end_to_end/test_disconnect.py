"""Clients that leave, under a real gunicorn and behind a real nginx."""

from __future__ import annotations

import os
import random
import select
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from ..servers.processes import PROJECT, eventually, find_program, free_ports
from ..servers.service import Service

Start = Callable[..., Service]

(OWNER,) = [p.name for p in (PROJECT / "src").iterdir() if (p / "app.py").is_file()]
APP = f"""
import os, time
import flask
from {OWNER}.app import create_app
from threadkit import deadline, sleep
from threadkit.concurrency import Cancelled

app = create_app()
notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(name):
    os.write(notes, f"{{name}} {{time.monotonic()}}\\n".encode())


@app.route("/wait/<name>/<float:seconds>", methods=["GET", "POST"])
def wait(name, seconds):
    try:
        sleep(seconds)
    except Cancelled:
        note(name)
        raise
    return name


@app.get("/stream/<name>")
@deadline(None)
def stream(name):
    def chunks():
        try:
            while True:
                yield b"x" * 10
                sleep(0.05)
        finally:
            note(name)
    return flask.Response(chunks())
"""


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], dict[str, float]]:
    """Which requests were cancelled, and when; a client's clock is the service's."""

    def read() -> dict[str, float]:
        path = tmp_path / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return {name: float(when) for name, when in map(str.split, lines)}

    return read


Notes = Callable[[], dict[str, float]]


@pytest.fixture
def service(start: Start, tmp_path: Path) -> Service:
    (tmp_path / "leavers.py").write_text(APP)
    return start(
        *("-c", "gunicorn.conf.py", "leavers:app"),
        PYTHONPATH=str(tmp_path),
        NOTES=str(tmp_path / "notes"),
        REQUEST_TIMEOUT="20",
    )


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


def request(path: str, extra: str = "", body: bytes = b"", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode() + body


def read_answer(answers: IO[bytes]) -> bytes:
    """The status line of one answer with a Content-Length, which is read to its end."""
    status, length = answers.readline(), 0
    while (line := answers.readline()).strip():
        if line.lower().startswith(b"content-length"):
            length = int(line.split(b":")[1])
    assert len(answers.read(length)) == length
    return status


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


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """A proxy in front; its port."""
    program = find_program("nginx", Path("/usr/sbin"))
    if program is None:
        pytest.skip("there is no nginx on this machine")
    (port,) = free_ports(1)
    configuration = folder / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;"
        f"events {{}} http {{ access_log off; client_body_temp_path {folder}; {temporary}"
        f" upstream service {{ server 127.0.0.1:{upstream}; keepalive 8; }}"
        f" server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://service;"
        ' proxy_http_version 1.1; proxy_set_header Connection ""; } } }'
    )
    process = subprocess.Popen([program, "-c", configuration, "-p", folder])
    try:
        eventually(lambda: reachable(port), what="nginx listens")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def reachable(port: int) -> bool:
    try:
        connect(port).close()
    except OSError:
        return False
    return True


def test_a_proxy_passes_it_on_and_its_other_requests_stay(
    service: Service, notes: Notes, tmp_path: Path
) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    with nginx(folder, service.port) as port:

        def stay(_: int) -> bytes:
            with connect(port) as connection, connection.makefile("rb") as answers:
                for _ in range(20):
                    connection.sendall(request("/wait/stay/0.02"))
                    answer = read_answer(answers)
                return answer

        def leave(number: int) -> None:
            with connect(port) as connection:
                connection.sendall(request(f"/wait/gone-{number}/15.0"))
                connection.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    connection.recv(1)

        with ThreadPoolExecutor(8) as pool:
            staying = [pool.submit(stay, n) for n in range(4)]
            list(pool.map(leave, range(12)))
            for each in staying:
                assert each.result(20).startswith(b"HTTP/1.1 200")
        names = {f"gone-{n}" for n in range(12)}
        eventually(lambda: set(notes()) == names, what="those that left are cancelled", seconds=5)
