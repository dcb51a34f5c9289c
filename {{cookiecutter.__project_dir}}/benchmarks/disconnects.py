"""Clients that leave a real gunicorn: how soon their requests end, and whether only theirs do.

    python -m benchmarks.chaos disconnects

One worker serves clients that stay (kept alive, pipelined) and clients that leave at random
moments, 10,000 of them.
"""

from __future__ import annotations

import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.leavers import connect, leavers, notes, read_answer, request
from tests.servers.processes import eventually, migrate
from tests.servers.service import Service

from threadkit.server.config import HEADROOM

Numbers = dict[str, float]
LEAVERS, MEASURED = 10_000, 500
CONCURRENCY = 16
POOL = 2 * CONCURRENCY + HEADROOM
"""Threads that a worker may have for requests: as many may wait as run."""


def serve(folder: Path) -> Service:
    """One worker, one place for each client that the experiments have."""
    arguments, environ = leavers(folder)
    url = f"sqlite:///{folder}/items.db"
    migrate(url)
    return Service(
        folder / "service",
        {
            "DATABASE_URL": url,
            "WORKERS": "1",
            "CONCURRENCY": str(CONCURRENCY),
            "LOG_LEVEL": "WARNING",
            **environ,
        },
        arguments,
    )


def stay(port: int, stop: threading.Event) -> int:
    """A client that stays; how many answers it got."""
    answered = 0
    with connect(port) as connection, connection.makefile("rb") as answers:
        while not stop.is_set():
            connection.sendall(request("/wait/stay/0.005") + request("/wait/stay/0.001"))
            for _ in range(2):
                status = read_answer(answers)
                assert status.startswith(b"HTTP/1.1 200"), status
                answered += 1
    return answered


def measure(folder: Path, port: int) -> list[float]:
    """Milliseconds from a client's leaving to the end of its request, sorted."""
    left: dict[str, float] = {}

    def leave(number: int) -> None:
        name = f"measured-{number}"
        with connect(port) as connection:
            connection.sendall(request(f"/wait/{name}/15.0"))
            select.select([connection], [], [], 0.05 + 0.001 * (number % 17))
            left[name] = time.monotonic()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(leave, range(MEASURED)))
    # Who has left before the handler began is not run at all, and has no time to measure.
    most = 0.9 * MEASURED
    eventually(lambda: len(left.keys() & dict(notes(folder)).keys()) > most, what="all end")
    ended = dict(notes(folder))
    return sorted(1000 * (ended[name] - left[name]) for name in left.keys() & ended.keys())


def leave_at_random(port: int, count: int, seed: int) -> None:
    """Clients that leave before, while and after they are answered."""
    chance = random.Random(seed)
    for _ in range(count):
        with connect(port) as connection:
            connection.sendall(request(f"/wait/leave/{chance.uniform(0.0005, 0.02):.4f}"))
            select.select([connection], [], [], chance.uniform(0, 0.02))
            if chance.random() < 0.3:  # a reset instead of an end
                linger = b"\x01\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def all_leave(port: int, count: int) -> None:
    """So many clients, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        for seed in range(8):
            pool.submit(leave_at_random, port, count // 8, seed)


def descriptors(pid: int) -> int:
    """Open files of the worker."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(service: Service) -> int:
    """Threads of the worker, of those for requests only what is beyond the most there may be.

    They come with the load, when more run at once than before.
    """
    document = service.ask("GET", "/debug/vars", admin=True).json()
    names: dict[str, int] = document["threads"]["by_name"]
    return sum(names.values()) - min(names["request"], POOL)


def with_stayers(port: int, do: Callable[[], None]) -> int:
    """Answers to clients that stay while ``do`` runs; a cancelled one ends the experiment."""
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        staying = [pool.submit(stay, port, stop) for _ in range(3)]
        try:
            do()
        finally:
            stop.set()
        return sum(each.result(30) for each in staying)


def experiments() -> Numbers:
    """Both experiments."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        service = serve(folder)
        try:
            eventually(lambda: answers(service.port), what="it serves")
            (worker,) = workers(service.process.pid)
            took: list[float] = []
            with_stayers(service.port, lambda: took.extend(measure(folder, service.port)))
            with_stayers(service.port, lambda: all_leave(service.port, LEAVERS // 10))
            before = descriptors(worker), threads(service)
            answered = with_stayers(service.port, lambda: all_leave(service.port, LEAVERS))
            eventually(lambda: descriptors(worker) <= before[0], what="all is closed", seconds=30)
            after = descriptors(worker), threads(service)
            names = [name for name, _ in notes(folder)]
        finally:
            service.stop()
    return {
        "clients that left": LEAVERS,
        "before their answer": names.count("leave"),
        "innocent requests": answered,
        "innocents cancelled": names.count("stay"),
        "descriptors leaked": after[0] - before[0],
        "threads leaked": after[1] - before[1],
        "request ends after, p50 ms": took[len(took) // 2],
        "request ends after, p99 ms": took[len(took) * 99 // 100],
    }


def answers(port: int) -> bool:
    try:
        with connect(port) as connection, connection.makefile("rb") as answer:
            connection.sendall(request("/livez"))
            return read_answer(answer).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def workers(master: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
