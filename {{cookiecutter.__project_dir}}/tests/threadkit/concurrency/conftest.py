"""What the tests of this room share: gates, and threads that are always joined."""

from __future__ import annotations

import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from time import monotonic
from typing import Any

import pytest

from threadkit.concurrency import (
    attach_invalidation_bus,
    attach_shared_tier,
    background,
    close_shared_executor,
)
from threadkit.testing import no_leaked_threads  # noqa: F401 - autouse

PATIENCE = 10.0
"""Seconds after which a join or a gate counts as stuck; a passing test never waits this long."""


class Threads:
    """Starts functions in threads and collects what they return or raise."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def start(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()
        return future

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread} is stuck"
        self._threads.clear()


@pytest.fixture
def threads() -> Iterator[Threads]:
    helper = Threads()
    yield helper
    helper.join()


@pytest.fixture(autouse=True)
def fresh_process_wide_objects() -> Iterator[None]:
    """Every test starts and ends without the shared executor, a bus or a tier."""
    background.close()
    background.configure()
    yield
    attach_invalidation_bus(None)
    attach_shared_tier(None)
    report = close_shared_executor(timeout=PATIENCE)
    assert not report.left
    background.close()
    background.configure()


@pytest.fixture
def eventually() -> Callable[..., None]:
    """`eventually(condition, what)`: see `_eventually`."""
    return _eventually


@pytest.fixture
def in_forked_child() -> Callable[[Callable[[], None]], None]:
    """`in_forked_child(check)`: see `_in_forked_child`."""
    return _in_forked_child


def _eventually(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait for a state that another thread reaches by itself and that offers nothing to wait on.

    Only for reaching the situation to be tested, never to decide whether a test passes.
    """
    end = monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert monotonic() < end, f"{what} did not come about in {PATIENCE} s"
        pause.wait(0.001)


def _in_forked_child(check: Callable[[], None]) -> None:
    """Run `check` in a forked child and fail here if it fails, or hangs, there."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forking with threads about; that it works here is the claim.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            watchdog = threading.Timer(PATIENCE, os._exit, (2,))
            watchdog.daemon = True
            watchdog.start()
            check()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        message = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, message or f"the child ended with status {status} (2 << 8: it hung)"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that is set at the end in any case, so that no thread stays behind it."""
    event = threading.Event()
    yield event
    event.set()
