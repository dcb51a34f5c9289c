"""Workers that are stopped, replaced, killed or stuck."""

from __future__ import annotations

import os
import select
import signal
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.chaos.figures import Numbers
from benchmarks.chaos.measure import Load, closed_loop
from benchmarks.chaos.subjects import CONCURRENCY, Start, Subject, cpu_seconds, who


def signalled(number: signal.Signals, runs: int) -> Callable[[Start], Numbers]:
    """Stop or reload under load. Who finds no listener any more after a stop is no failure."""
    stops = number == signal.SIGTERM

    def run(start: Start) -> Numbers:
        failed = refused = asked = done = 0
        lasted: list[float] = []
        for _ in range(runs):
            with start(workers=2) as server:
                old = set(server.workers())
                load = Load(server.port, "/quick", 150, 30, 8.0)
                time.sleep(1.5)
                signalled_at = time.monotonic()
                server.process.send_signal(number)
                done += _is_done(server, old, stops=stops)
                load.stop()
                result = load.result()
                bad = [(due, s) for due, _, s in result.load if s != 200]
                good = [due for due, _, s in result.load if s == 200]
                if stops:
                    # What comes after the last answer finds no listener any more.
                    bad = [(due, s) for due, s in bad if due < max(good)]
                refused += sum(s == 503 for _, s in bad)
                failed, asked = failed + len(bad), asked + len(result.load)
                lasted.append(max(good) - (signalled_at - result.began))
        return {
            "failed requests": failed,
            "of them refused, 503": refused,
            "asked": asked,
            "runs that it was done in": done,
            "goes on answering for s": statistics.median(lasted),
        }

    return run


def _is_done(server: Subject, old: set[int], *, stops: bool) -> bool:
    """Wait for the end of the service or of its old workers; whether it came in time."""
    until = time.monotonic() + 25
    while time.monotonic() < until:
        if server.process.poll() is not None if stops else not old & set(server.workers()):
            return True
        time.sleep(0.05)
    return False


def kill(start: Start) -> Numbers:
    """kill -9 of one worker of two, under a load that one alone could not take.

    A 503 in the meantime is no failure: it says at once that there is no place.
    """
    with start(workers=2) as server:
        old = set(server.workers())
        load = Load(server.port, "/wait", 130, 8, 5.0)
        time.sleep(2.0)
        killed = time.monotonic()
        os.kill(min(old), signal.SIGKILL)
        while who(server.port) in {0, *old} and time.monotonic() - killed < 10:
            time.sleep(0.005)
        replaced = time.monotonic() - killed
        result = load.result()
    after = killed - result.began
    # Nobody waits for a place half a second, or is refused one, while there is capacity.
    late = [due - after for due, took, s in result.load if due > after and (took > 0.5 or s != 200)]
    # What the killed one was working on, or had in line, is lost with either server.
    failed = [(due, took) for due, took, s in result.load if s not in (200, 503)]
    in_flight = [due for due, took in failed if due <= after <= due + took]
    return {
        "failed requests": len(failed),
        "of them not in flight": len(failed) - len(in_flight),
        "a new worker answers after s": replaced,
        "capacity back after s": max(late, default=0.0),
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
        while who(server.port) in {0, *known} and time.monotonic() - began < 12:
            time.sleep(0.01)
        replaced = time.monotonic() - began
        result = load.result().load
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
