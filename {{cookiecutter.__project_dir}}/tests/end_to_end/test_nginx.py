"""Behind a real nginx, which serves many clients over few connections that it keeps."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from ..servers import leavers
from ..servers.clients import Answer, read_answer
from ..servers.leavers import connect, request
from ..servers.nginx import KEPT, Nginx
from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]

CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Front:
    """A service and the nginx in front of it."""

    def __init__(self, service: Service, nginx: Nginx, folder: Path) -> None:
        self.service, self.nginx, self.port = service, nginx, nginx.port
        self._folder = folder

    def cancelled(self) -> list[str]:
        """The requests that were cancelled."""
        return [name for name, _ in leavers.notes(self._folder)]

    def ask(self, *requests: bytes) -> list[Answer]:
        """The answers to these, all sent in one go."""
        with connect(self.port) as connection, connection.makefile("rb") as stream:
            connection.sendall(b"".join(requests))
            answers = [read_answer(stream) for _ in requests]
        return [answer for answer in answers if answer is not None]

    def is_served(self) -> bool:
        """Whether a request comes through, and every worker has started."""
        try:
            (answer,) = self.ask(request("/livez"))
            everyone = self.service.ask("GET", "/debug/vars?pid=all", admin=True).json()
        except (OSError, urllib3.exceptions.HTTPError):
            return False
        return answer.status == 200 and len(everyone["workers"]) == len(self.workers())

    def held(self) -> int:
        """Open files of the workers."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers())

    def workers(self) -> list[int]:
        """Their numbers."""
        master = self.service.process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stay(self, name: str, stop: threading.Event, rounds: Counter[str]) -> None:
        """A client that asks in all ways, and must always be answered; counts its rounds."""
        unread = request(
            f"/wait/{name}/0.001", "Content-Length: 9000\r\n", b"b" * 9000, method="POST"
        )
        ways = [
            [request(f"/wait/{name}/0.005")],
            [request(f"/wait/{name}/0.001"), request("/livez"), request(f"/wait/{name}/0.001")],
            [unread, request(f"/wait/{name}/0.001")],
        ]
        with connect(self.port) as connection, connection.makefile("rb") as stream:
            while not stop.is_set():
                for way in ways:
                    connection.sendall(b"".join(way))
                    for _ in way:
                        answer = read_answer(stream)
                        assert answer is not None, "the connection was closed"
                        assert answer.status == 200, answer
                rounds[name] += 1

    @contextlib.contextmanager
    def others(self) -> Iterator[None]:
        """Three clients that stay, of whom none may notice what else is going on."""
        stop, rounds = threading.Event(), Counter[str]()
        names = [f"stay-{n}" for n in range(3)]
        with ThreadPoolExecutor(len(names)) as pool:
            staying = [pool.submit(self.stay, name, stop, rounds) for name in names]

            def another_round() -> None:
                before = rounds.copy()
                eventually(
                    lambda: (
                        all(rounds[name] > before[name] for name in names)
                        or any(each.done() for each in staying)
                    ),
                    what="all are answered",
                )

            try:
                another_round()
                yield
                another_round()
            finally:
                stop.set()
            for each in staying:
                each.result(30)
        assert not set(names) & set(self.cancelled())


@pytest.fixture(params=["tcp", "unix"])
def upstream(request: pytest.FixtureRequest) -> str:
    """The kind of address at which nginx finds the service."""
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["gathered", "streamed"])
def buffering(request: pytest.FixtureRequest) -> bool:
    """Whether nginx gathers bodies before it passes them on."""
    return bool(request.param)


@pytest.fixture
def front(
    start: Start, tmp_path: Path, upstream: str, request: pytest.FixtureRequest
) -> Iterator[Front]:
    program = Nginx.find()
    if program is None:
        pytest.skip("there is no nginx on this machine")
    buffering = "buffering" not in request.fixturenames or request.getfixturevalue("buffering")
    arguments, environ = leavers.leavers(tmp_path)
    address = tmp_path / "s"
    if upstream == "unix":
        environ["BIND"] = f"unix:{address}"
    service = start(*arguments, ready=upstream == "tcp", **environ)
    nginx = Nginx(
        program,
        tmp_path / "nginx",
        upstream=f"unix:{address}" if upstream == "unix" else f"127.0.0.1:{service.port}",
        buffering=buffering,
    )
    made = Front(service, nginx, tmp_path)
    try:
        eventually(made.is_served, what="it is passed on", seconds=60)
        yield made
    finally:
        nginx.stop()


def test_many_requests_go_over_few_connections(front: Front, upstream: str) -> None:
    def ask(_: int) -> set[bytes]:
        answers = front.ask(*[request("/peer")] * 50)
        assert [answer.status for answer in answers] == [200] * 50
        return {answer.body for answer in answers}

    with ThreadPoolExecutor(KEPT // 2) as several:
        ports = set.union(*several.map(ask, range(KEPT // 2)))
    assert len(ports) == 1 if upstream == "unix" else len(ports) <= KEPT


def test_who_leaves_ends_the_own_request_and_no_other(front: Front) -> None:
    def leave(number: int) -> None:
        with connect(front.port) as connection:
            connection.sendall(request(f"/wait/gone-{number}/15.0"))
            assert not select.select([connection], [], [], 0.1)[0]

    with front.others(), ThreadPoolExecutor(4) as pool:
        list(pool.map(leave, range(12)))
        names = {f"gone-{n}" for n in range(12)}
        eventually(lambda: set(front.cancelled()) == names, what="they are cancelled", seconds=5)


def test_half_a_close_is_a_disconnect_to_nginx_too(front: Front) -> None:
    with front.others(), connect(front.port) as connection:
        connection.sendall(request("/wait/half/15.0"))
        assert not select.select([connection], [], [], 0.2)[0]
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: "half" in front.cancelled(), what="it is cancelled", seconds=5)
        assert connection.recv(1000) == b""


def test_of_those_sent_in_one_go_only_the_one_that_runs_is_cancelled(front: Front) -> None:
    """nginx passes them on one after another, so the others never reach the service."""
    with front.others(), connect(front.port) as connection, connection.makefile("rb") as stream:
        connection.sendall(
            request("/wait/first/0.01") + request("/wait/second/15.0") + request("/wait/third/15.0")
        )
        answer = read_answer(stream)
        assert answer is not None
        assert answer.status == 200
        assert not select.select([connection], [], [], 0.2)[0]
        connection.shutdown(socket.SHUT_RDWR)
        eventually(lambda: "second" in front.cancelled(), what="it is cancelled", seconds=5)
    assert [name for name in front.cancelled() if name != "second"] == []


def test_bodies_come_through_whole_or_are_refused(front: Front, buffering: bool) -> None:
    body = bytes(range(256)) * 800
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (body[at : at + 7000] for at in range(0, len(body), 7000))
    )
    too_large = 1024 * 1024 + 1
    with front.others():
        answers = front.ask(
            request("/size", f"Content-Length: {len(body)}\r\n", body, method="POST"),
            request("/size", CHUNKED.decode(), pieces + b"0\r\n\r\n", method="POST"),
            request("/wait/unread/0.01", f"Content-Length: {len(body)}\r\n", body, method="POST"),
            request("/size", "Content-Length: 0\r\n", method="POST"),
        )
        assert [a.status for a in answers] == [200] * 4
        sizes = [answers[n].json()["size"] for n in (0, 1, 3)]
        assert sizes == [len(body), len(body), 0]
        for _ in range(5):
            (refused,) = front.ask(
                request(
                    "/size", f"Content-Length: {too_large}\r\n", b"x" * too_large, method="POST"
                )
            )
            assert refused.status == 413
            assert refused.headers["content-type"] == "application/problem+json"


def test_who_leaves_in_the_midst_of_a_body_is_nobodys_fault(front: Front, buffering: bool) -> None:
    with front.others():
        for count in range(1, 20_000, 1000):
            with connect(front.port) as connection:
                connection.sendall(
                    request("/size", "Content-Length: 20000\r\n", b"x" * count, method="POST")
                )
    assert [r for r in front.service.records() if r["level"] in ("error", "critical")] == []


def test_random_disconnects_hit_nobody_else_and_leave_nothing_open(front: Front) -> None:
    """Numbers of connections are used again all the time, on both sides of nginx."""
    count, clients = 1200, 6
    answered = []

    def leave(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(count // clients):
            with connect(front.port) as connection:
                several = request(f"/wait/leave/{chance.uniform(0.0005, 0.02):.4f}")
                connection.sendall(several * chance.randint(1, 2))
                if select.select([connection], [], [], chance.uniform(0, 0.02))[0]:
                    answered.append(seed)
                if chance.random() < 0.3:  # a reset instead of an end
                    linger = b"\x01\0\0\0\0\0\0\0"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    with front.others():
        pass  # so that what comes with the first load is there
    before = front.held()
    with front.others(), ThreadPoolExecutor(clients) as pool:
        for each in [pool.submit(leave, seed) for seed in range(clients)]:
            each.result(60)
    assert 0 < len(answered) < count
    assert front.cancelled()
    eventually(lambda: front.held() <= before + KEPT, what="nothing is left open", seconds=15)
    assert [r for r in front.service.records() if r["level"] in ("error", "critical")] == []


def test_a_reload_is_not_seen_through_nginx(front: Front) -> None:
    old, complaints = set(front.workers()), front.nginx.errors()
    with front.others():
        front.service.send(signal.SIGHUP)
        eventually(lambda: not old & set(front.workers()), what="the old workers leave")
        # And for some requests of the new ones.
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert [a.status for a in front.ask(request("/livez"))] == [200]
    assert front.nginx.errors() == complaints
