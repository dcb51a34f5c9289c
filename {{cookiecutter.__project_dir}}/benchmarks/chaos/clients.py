"""Clients that are slow, silent, gone or no clients at all, and what the others notice of them."""

from __future__ import annotations

import random
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

from benchmarks.chaos.figures import Numbers
from benchmarks.chaos.measure import Load, closed_loop, health_of, on_the_other_core, percentile
from benchmarks.chaos.subjects import CONCURRENCY, Start

_KINDS = (
    b"",
    b"GET /quick HTTP/1.1\r\nX: y",
    b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
)
_GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
    bytes(range(256)),
    b"GET /quick HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 100_000,
    b"GET /qui",
    b"POST /quick HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def slow(start: Start) -> Numbers:
    """500 clients each that say nothing, half a head, half a body; others go on."""
    with start(workers=2, MAX_CONNECTIONS="2000") as server, ExitStack() as stack:
        before = closed_loop(server.port, "/quick", 3)
        for said in _KINDS * 500:
            client = stack.enter_context(_connect(server.port))
            client.sendall(said)
        result = Load(server.port, "/livez", 1, 4).result()
        during = closed_loop(server.port, "/quick", 3)
        return {"throughput / undisturbed": during / before, **health_of(result)}


def lingering(start: Start) -> Numbers:
    """Four clients that never close their side after `Connection: close`, one after another."""
    with start() as server, ExitStack() as stack:
        load = Load(server.port, "/quick", 20, 5, 5.0)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            for _ in range(4):
                client = stack.enter_context(_connect(server.port))
                client.sendall(b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            time.sleep(0.2)
        result = load.result()
    return {"p50 of others ms": 1000 * statistics.median(t for _, t, _ in result.load)}


def flood(start: Start) -> Numbers:
    """Connections that say nothing, as fast as one client can open them."""
    with start(MAX_CONNECTIONS="500") as server, on_the_other_core():
        load = Load(server.port, "/livez", 5, 5, 5.0)
        held: list[socket.socket] = []
        until = time.monotonic() + 4
        while time.monotonic() < until:
            try:
                held.append(socket.create_connection(("127.0.0.1", server.port), 0.5))
            except OSError:
                time.sleep(0.01)
            if len(held) > 800:
                held.pop(0).close()
        result = load.result()
        for client in held:
            client.close()
    return health_of(result)


def bad_input(start: Start) -> Numbers:
    """TLS, garbage, truncated and malformed requests, 100 kB lines; three senders do not rest."""
    with start() as server, _repeated(3, lambda: _send_garbage(server.port)):
        return health_of(Load(server.port, "/livez", 5, 5, 5.0).result())


def slow_readers(start: Start) -> Numbers:
    """Three times as many clients as may run that ask for 20 MB and do not read it."""
    with start() as server, ExitStack() as stack:
        for _ in range(3 * CONCURRENCY):
            client = stack.enter_context(_connect(server.port))
            client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        return health_of(Load(server.port, "/livez", 5, 5, 5.0).result())


def leaving(start: Start) -> Numbers:
    """Clients that leave in the midst of a request of half a second, at moderate load."""
    left: dict[str, float] = {}

    def leave(port: int, number: int) -> None:
        with _connect(port) as client:
            # Half a second of waiting, which stock gunicorn always does to its end.
            client.sendall(b"GET /hold/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            select.select([client], [], [], 0.05 + 0.001 * (number % 17))
            left[str(number)] = time.monotonic()

    with start() as server:
        load = Load(server.port, "/quick", 50, 15, 5.0)
        with ThreadPoolExecutor(4) as pool:
            for number in range(200):
                pool.submit(leave, server.port, number)
        load.result()
        ended = dict(server.notes())
    took = [1000 * (ended[name] - left[name]) for name in left.keys() & ended.keys()]
    return {
        "work goes on, p50 ms": percentile(took, 0.5),
        "work goes on, p99 ms": percentile(took, 0.99),
    }


def _send_garbage(port: int) -> None:
    with suppress(OSError), _connect(port) as client:
        client.sendall(random.choice(_GARBAGE))
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass


@contextmanager
def _repeated(threads: int, do: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def repeat() -> None:
        with on_the_other_core():
            while not stop.is_set():
                do()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(repeat) for _ in range(threads)]
        try:
            yield
        finally:
            stop.set()
        for each in running:
            each.result(30)
