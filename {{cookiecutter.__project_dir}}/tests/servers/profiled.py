"""Requests without end from several threads, and what a profile of them says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import urllib3

from threadkit.profiling.profile import Profile


class Load:
    """Asks for the paths in turn, from ``clients`` threads, for as long as the block lasts.

    Each waits ``pause`` seconds before it asks.
    """

    def __init__(
        self, base: str, paths: Sequence[str], clients: int = 4, pause: float = 0.0
    ) -> None:
        self._base, self._paths, self._pause = base, paths, pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers = 0
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"client-{number}")
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number: int) -> None:
        http = urllib3.PoolManager(maxsize=1, retries=False, timeout=10)
        while not self._stop.wait(self._pause):
            path = self._paths[number % len(self._paths)]
            number += 1
            try:
                status: Any = http.request("GET", self._base + path).status
            except urllib3.exceptions.HTTPError as failure:
                status = failure
            with self._lock:
                self.answers += 1
                if status != 200:
                    self.failures.append(f"{path}: {status}")
        http.clear()


def through(profile: Profile, *functions: str, label: tuple[str, str] | None = None) -> int:
    """Value of the samples whose stack has all of these functions, in the last column."""
    total = 0
    for (stack, tags), values in profile.samples.items():
        names = {frame.name.rpartition(".")[2] for frame in stack}
        if set(functions) <= names and (label is None or label in tags):
            total += values[-1]
    return total


def shares(profile: Profile, functions: Sequence[str], whole: str) -> dict[str, float]:
    """Percent of ``whole`` that each function has."""
    all_of_it = through(profile, whole) or 1
    return {name: 100 * through(profile, whole, name) / all_of_it for name in functions}


Spent = dict[str, tuple[int, int]]
"""Of each function, how many calls were measured, and their CPU nanoseconds."""


def true_shares(
    before: Spent, after: Spent, functions: Sequence[str], whole: str
) -> dict[str, float]:
    """The same by the clocks of the threads themselves: what a call cost in between."""

    def cost(name: str) -> float:
        (calls, spent), (calls_before, spent_before) = after[name], before.get(name, (0, 0))
        return (spent - spent_before) / (calls - calls_before)

    return {name: 100 * cost(name) / cost(whole) for name in functions}


REQUEST = "wsgi_app"
"""What works for a request from its first line of Python to its last, in every stack of one."""
MIXES = {
    "/burst": ("burst", ("alpha", "beta", "gamma")),
    "/third": ("one_third", ("third", "two_thirds")),
}
"""The workload's paths: their handler, and the functions that it calls."""
