"""A service with known costs and known defects, to be looked at with the profiler.

    gunicorn -c gunicorn.conf.py workload:app        # with this folder in PYTHONPATH

What its functions have cost is known by their threads' own clocks, so that a profile can be
held against the truth of the very same seconds. ``WITHOUT_PYSPY`` leaves it to the fallback.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TypeVar
from unittest import mock

import flask

from threadkit.extension import init_app
from threadkit.profiling import pyspy
from threadkit.profiling.locks import ProfiledLock
from threadkit.settings import Settings

STEP = 600
"""Turns of a loop that take some 20 µs of CPU."""

_released = threading.Event()
_orders = ProfiledLock("orders")
_kept: list[bytearray] = []
_accounts = threading.Lock()
_spent: dict[str, tuple[int, int]] = {}  # guarded by _accounts

P = ParamSpec("P")
R = TypeVar("R")

if os.environ.get("WITHOUT_PYSPY"):
    mock.patch.object(pyspy, "program", return_value=None).start()


def measured(function: Callable[P, R]) -> Callable[P, R]:
    """Keeps account of what a call costs, by the CPU clock of its thread.

    Of one call in sixteen: reading the clock is a system call, after which a busy kernel likes
    to take the processor away, and a profile would see that time there.
    """
    calls = itertools.count()

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if next(calls) % 16:
            return function(*args, **kwargs)
        began = time.thread_time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.thread_time_ns() - began
            with _accounts:
                count, spent = _spent.get(function.__name__, (0, 0))
                _spent[function.__name__] = (count + 1, spent + took)

    return call


def work(steps: int) -> int:
    """CPU and nothing else; the callers differ, so that stacks do."""
    total = 0
    for number in range(steps * STEP):
        total += number & 7
    return total


@measured
def alpha() -> None:
    work(62)


@measured
def beta() -> None:
    work(21)


@measured
def gamma() -> None:
    work(10)


@measured
def third() -> None:
    work(33)


@measured
def two_thirds() -> None:
    work(67)


app = flask.Flask("workload", static_folder=None)
app.wsgi_app = measured(app.wsgi_app)  # type: ignore[method-assign]
init_app(app, Settings.load())


@app.get("/burst")
@measured
def burst() -> str:
    """Some milliseconds of CPU: 62, 21 and 10 parts, and 7 in the handler itself."""
    alpha()
    beta()
    gamma()
    work(7)
    return "done"


@app.get("/third")
@measured
def one_third() -> str:
    """One function has a third of the handler's CPU."""
    third()
    two_thirds()
    return "done"


@app.get("/spent")
def spent() -> dict[str, tuple[int, int]]:
    """Measured calls of each function so far, and their CPU nanoseconds."""
    with _accounts:
        return dict(_spent)


@app.get("/state")
def state() -> dict[str, Any]:
    """What a profiler may have left behind in this process."""
    return {
        "pid": os.getpid(),
        "switch_interval": sys.getswitchinterval(),
        "tracemalloc": tracemalloc.is_tracing(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


@app.get("/naive")
def naive() -> dict[str, int]:
    """What profilers in Python usually do: look at all threads a hundred times a second."""
    until = time.monotonic() + float(flask.request.args["seconds"])
    stacks: dict[str, int] = {}
    own = threading.get_ident()
    while time.monotonic() < until:
        time.sleep(0.01)
        for ident, frame in sys._current_frames().items():
            names: list[str] = []
            here: FrameType | None = frame
            while here is not None:
                names.append(here.f_code.co_name)
                here = here.f_back
            if ident != own and "wsgi_app" in names:  # a thread that serves a request
                stacks[";".join(names)] = stacks.get(";".join(names), 0) + 1
    return stacks


@app.get("/stuck")
def stuck() -> str:
    """Waits, and looks at nothing meanwhile."""
    _released.wait(2)
    return "released"


@app.get("/compute")
def compute() -> str:
    """Wants a processor all the time, and looks at nothing meanwhile."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        work(5)
    return "computed"


@app.get("/leak")
def leak() -> str:
    """Starts a thread that nobody ever joins."""
    threading.Thread(target=forgotten, name="forgotten", daemon=True).start()
    return "leaked"


def forgotten() -> None:
    threading.Event().wait()


@app.get("/convoy")
def convoy() -> str:
    """Everyone wants the lock that a slow one holds."""
    with _orders:
        slow_under_the_lock()
    return "done"


@app.get("/contend")
def contend() -> str:
    """Holds the lock until another thread waits for it: one contention, whatever the load."""
    other = threading.Thread(target=take_the_lock, name="other")
    with _orders:
        other.start()
        while not _orders.waiting:
            time.sleep(0.001)
    other.join(5)
    return "done"


def take_the_lock() -> None:
    with _orders:
        pass


def slow_under_the_lock() -> None:
    time.sleep(0.1)


@app.get("/grow")
def grow() -> str:
    """Keeps what it should not."""
    remember()
    return "kept"


def remember() -> None:
    _kept.append(bytearray(20_000))
