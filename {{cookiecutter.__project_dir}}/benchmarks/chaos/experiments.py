"""The experiments: what is done to a server, what is measured, and what is wanted."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.subjects import CONCURRENCY, CORES, Subject, cpu_seconds, get

Start = Callable[..., AbstractContextManager[Subject]]
Numbers = dict[str, float]
MARGIN = 1.1
"""How far a figure may be off before it counts as missed."""


@dataclass
class Figure:
    """One line of the table."""

    name: str
    stock: float
    ours: float
    wanted: str
    holds: bool


@dataclass
class Experiment:
    """How it is run for one server, and what is wanted of which of its numbers."""

    run: Callable[[Start], Numbers]
    at_least: dict[str, float]
    at_most: dict[str, float]

    def figures(self, stock: Numbers, ours: Numbers) -> list[Figure]:
        """Every number of the experiment, judged."""
        lines = []
        for name, limit in self.at_least.items():
            good = ours[name] * MARGIN >= limit
            lines.append(Figure(name, stock[name], ours[name], f">= {limit:g}", good))
        for name, limit in self.at_most.items():
            good = ours[name] <= limit * MARGIN
            lines.append(Figure(name, stock[name], ours[name], f"<= {limit:g}", good))
        return lines


class Load:
    """The generator in a process of its own, on the other core."""

    def __init__(
        self, port: int, path: str, rate: float, seconds: float, timeout: float = 1.0
    ) -> None:
        script = Path(__file__).with_name("load.py")
        words = [str(w) for w in (port, path, rate, seconds, timeout)]
        self._process = subprocess.Popen(
            ["taskset", "-c", str(CORES[-1]), sys.executable, str(script), *words],
            stdout=subprocess.PIPE,
        )

    def result(self) -> dict[str, list[tuple[float, float, int]]]:
        """Wait for it."""
        output, _ = self._process.communicate(timeout=300)
        answer: dict[str, list[tuple[float, float, int]]] = json.loads(output)
        return answer


def percentile(values: list[float], share: float) -> float:
    """0 of nothing."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def health_of(result: Any) -> Numbers:
    health = result["health"]
    return {
        "health answered": sum(s == 200 for *_, s in health) / max(1, len(health)),
        "health p99 ms": 1000 * percentile([took for _, took, _ in health], 0.99),
    }


def overload(path: str, capacity: float | None) -> Callable[[Start], Numbers]:
    """Ten times the load that it can take, for 8 s, and then a tenth of what it can take."""

    def run(start: Start) -> Numbers:
        with start() as server:
            calm = Load(server.port, path, 8, 3).result()
            unloaded = percentile([took for _, took, s in calm["load"] if s == 200], 0.99)
            most = capacity or closed_loop(server.port, path, 4)
            result = Load(server.port, path, 10 * most, 8).result()
            stopped = time.monotonic()
            while time.monotonic() - stopped < 60:
                began = time.monotonic()
                try:
                    if get(server.port, path) == 200 and time.monotonic() - began < 0.5:
                        break
                except OSError:
                    continue
            recovered = time.monotonic() - stopped
        good = [took for due, took, s in result["load"] if s == 200 and due >= 1]
        return {
            "goodput / capacity": len(good) / 7 / most,
            "p99 accepted / unloaded": percentile(good, 0.99) / unloaded if good else float("inf"),
            "recovered after s": recovered,
            **health_of(result),
        }

    return run


def closed_loop(port: int, path: str, seconds: int, clients: int = 4) -> float:
    """Requests a second of clients that wait for their answers."""
    words = ["taskset", "-c", str(CORES[-1]), "wrk", "-t1", f"-c{clients}", f"-d{seconds}s"]
    output = subprocess.run(
        [*words, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    ).stdout
    return float(output.partition("Requests/sec:")[2].split()[0])


def slow(start: Start) -> Numbers:
    """500 clients each that say nothing, half a head, half a body; others go on."""
    parts = (
        b"",
        b"GET /quick HTTP/1.1\r\nX: y",
        b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    )
    with start(workers=2, MAX_CONNECTIONS="2000") as server, ExitStack() as stack:
        before = closed_loop(server.port, "/quick", 3)
        for said in parts * 500:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
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
                client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                client.sendall(b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            time.sleep(0.2)
        result = load.result()
    return {"p50 of others ms": 1000 * statistics.median(t for _, t, _ in result["load"])}


def flood(start: Start) -> Numbers:
    """Connections that say nothing, as fast as one client can open them."""
    with start(MAX_CONNECTIONS="500") as server:
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


def signalled(number: signal.Signals, runs: int) -> Callable[[Start], Numbers]:
    """Stop or reload under load. A refused connection is no failure once the service has ended."""

    def run(start: Start) -> Numbers:
        failed = asked = 0
        for _ in range(runs):
            with start(workers=2) as server:
                load = Load(server.port, "/quick", 150, 6, 8.0)
                time.sleep(2.0)
                server.process.send_signal(number)
                result = load.result()["load"]
                ended = server.process.poll() is not None
                bad = [due for due, _, s in result if s != 200]
                good = [due for due, _, s in result if s == 200]
                if ended and good:
                    # What comes after the last answer finds no listener any more.
                    bad = [due for due in bad if due < max(good)]
                failed, asked = failed + len(bad), asked + len(result)
        return {"failed requests": failed, "asked": asked}

    return run


def kill(start: Start) -> Numbers:
    """kill -9 of one worker of two, under a load that one alone could not take.

    A 503 in the meantime is no failure: it says at once that there is no place.
    """
    with start(workers=2) as server:
        load = Load(server.port, "/wait", 130, 8, 5.0)
        time.sleep(2.0)
        victim, before = server.workers()[0], time.monotonic()
        os.kill(victim, signal.SIGKILL)
        result = load.result()["load"]
        killed = before - (before - 2.0)
        lost = sum(s not in (200, 503) for *_, s in result)
        late = [due for due, took, s in result if due > killed and (took > 0.5 or s != 200)]
        return {
            "failures beyond in flight": max(0, lost - CONCURRENCY),
            "capacity back after s": max(late, default=killed) - killed,
        }


def stuck(start: Start) -> Numbers:
    """All threads of one worker of two but one wait for ever; the deadline is 1 s, grace 1 s."""
    with start(workers=2, REQUEST_TIMEOUT="1", WATCHDOG_GRACE="1") as server, ExitStack() as stack:
        known = set(server.workers())
        while {who(server.port) for _ in range(20)} != known:
            time.sleep(0.1)
        victim = min(known)
        held: list[socket.socket] = []
        while len(held) < CONCURRENCY - 1:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            client.sendall(b"GET /stuck/%d HTTP/1.1\r\nHost: x\r\n\r\n" % victim)
            if not select.select([client], [], [], 0.1)[0]:
                held.append(client)
        began = time.monotonic()
        load = Load(server.port, "/quick", 50, 6, 5.0)
        while who(server.port) in known | {0} and time.monotonic() - began < 12:
            time.sleep(0.01)
        replaced = time.monotonic() - began
        result = load.result()["load"]
    return {
        "replaced, beyond deadline + grace, s": replaced - 2,
        "failed requests of others": sum(status != 200 for *_, status in result),
    }


def burst(start: Start) -> Numbers:
    """14 clients connect at once and stay; what the less busy of two workers gets of the work."""
    shares = []
    with start(workers=2, pinned=False) as server:
        for _ in range(10):
            before = {pid: cpu_seconds(pid) for pid in server.workers()}
            closed_loop(server.port, "/quick", 1, 14)
            used = [cpu_seconds(pid) - at for pid, at in before.items()]
            shares.append(min(used) / sum(used))
    return {"lesser share, worst of 10": min(shares), "lesser share": statistics.median(shares)}


def who(port: int) -> int:
    """The worker that answers."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65_536):
            answer += data
    document: dict[str, int] = json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}")
    return document.get("pid", 0)


def cost(start: Start) -> Numbers:
    """A trivial endpoint; `throughput` and `cpu` are compared by the caller."""
    rates, cpu = [], []
    with start() as server:
        closed_loop(server.port, "/quick", 1)
        for _ in range(8):
            before = server.cpu_seconds()
            rates.append(closed_loop(server.port, "/quick", 2))
            cpu.append((server.cpu_seconds() - before) / (rates[-1] * 2))
    return {
        "requests a second": statistics.median(rates),
        "cpu microseconds a request": 1e6 * statistics.median(cpu),
    }


class Cost(Experiment):
    """Judged by the ratio to stock gunicorn."""

    def figures(self, stock: Numbers, ours: Numbers) -> list[Figure]:
        """Two lines: throughput, and processor time."""
        rate, cpu = "requests a second", "cpu microseconds a request"
        ratio = ours[rate] / stock[rate]
        holds = ratio * MARGIN >= 0.9
        return [
            Figure(rate, stock[rate], ours[rate], f">= 0.9 x stock ({ratio:.2f})", holds),
            Figure(cpu, stock[cpu], ours[cpu], f"({ours[cpu] / stock[cpu]:.2f} x stock)", True),
        ]


_HEALTH = {"health answered": 1.0}
_PROMPT = {"health p99 ms": 250.0}

EXPERIMENTS: dict[str, Experiment] = {
    "overload": Experiment(
        overload("/wait", CONCURRENCY / 0.1),
        {"goodput / capacity": 0.95, **_HEALTH},
        {"p99 accepted / unloaded": 3.0, "recovered after s": 1.0},
    ),
    "overload_cpu": Experiment(
        overload("/burn", None), {"goodput / capacity": 0.8}, {"recovered after s": 1.0}
    ),
    "slow": Experiment(slow, {"throughput / undisturbed": 0.8, **_HEALTH}, _PROMPT),
    "lingering": Experiment(lingering, {}, {"p50 of others ms": 50.0}),
    "flood": Experiment(flood, _HEALTH, _PROMPT),
    "stop": Experiment(signalled(signal.SIGTERM, 10), {}, {"failed requests": 0}),
    "reload": Experiment(signalled(signal.SIGHUP, 10), {}, {"failed requests": 0}),
    "burst": Experiment(burst, {"lesser share": 0.3, "lesser share, worst of 10": 0.15}, {}),
    "kill": Experiment(kill, {}, {"failures beyond in flight": 2, "capacity back after s": 3.0}),
    "stuck": Experiment(
        stuck, {}, {"replaced, beyond deadline + grace, s": 5, "failed requests of others": 0}
    ),
    "cost": Cost(cost, {}, {}),
}
