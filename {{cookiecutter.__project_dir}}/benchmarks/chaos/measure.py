"""Load, and the numbers that come of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.figures import Numbers
from benchmarks.chaos.subjects import CORES

Sample = tuple[float, float, int]
"""Seconds since the load began, seconds until the answer, status (0 none in time, -1 failed)."""


@dataclass
class Result:
    """What a generator saw; ``began`` is ``time.monotonic()``, which all processes share."""

    began: float
    load: list[Sample]
    health: list[Sample]


@contextmanager
def on_the_other_core() -> Iterator[None]:
    """This thread leaves the server's core to the server."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Load:
    """The open-loop generator in a process of its own, on the other core."""

    def __init__(
        self, port: int, path: str, rate: float, seconds: float, timeout: float = 1.0
    ) -> None:
        script = Path(__file__).with_name("load.py")
        words = [str(w) for w in (port, path, rate, seconds, timeout)]
        self._process = subprocess.Popen(
            ["taskset", "-c", str(CORES[-1]), sys.executable, str(script), *words],
            stdout=subprocess.PIPE,
        )

    def stop(self) -> None:
        """Send nothing more."""
        self._process.terminate()

    def result(self) -> Result:
        """Wait for it."""
        output, _ = self._process.communicate(timeout=300)
        return Result(**json.loads(output))


def percentile(values: list[float], share: float) -> float:
    """Infinite where there are no values: nobody was answered."""
    if not values:
        return float("inf")
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def health_of(result: Result) -> Numbers:
    """How the probes fared beside the load."""
    health = result.health
    return {
        "health answered": sum(s == 200 for *_, s in health) / max(1, len(health)),
        "health p99 ms": 1000 * percentile([took for _, took, _ in health], 0.99),
    }


def closed_loop(port: int, path: str, seconds: int, clients: int = 4) -> float:
    """Requests a second of clients that wait for their answers."""
    words = ["taskset", "-c", str(CORES[-1]), "wrk", "-t1", f"-c{clients}", f"-d{seconds}s"]
    output = subprocess.run(
        [*words, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    ).stdout
    return float(output.partition("Requests/sec:")[2].split()[0])
