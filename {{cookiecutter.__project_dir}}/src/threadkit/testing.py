"""Fixtures and helpers for your own tests. Go's counterpart of the first is goleak.

In your `conftest.py`:

    from threadkit.testing import no_leaked_threads  # noqa: F401 - autouse for every test

A test that leaves a thread behind then fails, with that thread's stack in the report.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Collection, Iterator
from time import monotonic, sleep
from typing import TYPE_CHECKING

import flask
import pytest

from threadkit.concurrency import background, shared_executor
from threadkit.concurrency.timer import timer
from threadkit.runtime import Runtime
from threadkit.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

GRACE = 1.0
"""Seconds that a thread may need to end after its test."""


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread running, one second after its end.

    The kit's own process-wide threads (the shared executor's, the background's, the timer's) have
    an owner that joins them, so they may stay; every other thread that a test starts must end.
    """
    before = frozenset(threading.enumerate())
    yield
    leaked = wait_for_threads(before)
    if leaked:
        pytest.fail(describe_threads(leaked), pytrace=False)


def wait_for_threads(
    known: Collection[threading.Thread], grace: float = GRACE
) -> list[threading.Thread]:
    """The threads beyond the known ones that are still alive after `grace` seconds."""
    end = monotonic() + grace
    while True:
        leaked = [
            thread
            for thread in threading.enumerate()
            if thread not in known and not _has_owner(thread)
        ]
        left = end - monotonic()
        if not leaked or left <= 0:
            return leaked
        for thread in leaked:
            if thread.ident is None:  # on its way up: it can be joined when it has started
                sleep(0.001)
            else:
                thread.join(min(left, 0.05))


def describe_threads(threads: Collection[threading.Thread]) -> str:
    """The threads' names and where each of them is."""
    frames = sys._current_frames()
    lines = [f"{len(threads)} thread(s) still running {GRACE:g} s after the test:"]
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "  (gone)\n"
        lines.append(f"\n{thread.name}{' (daemon)' if thread.daemon else ''}\n{stack}")
    lines.append("Join it, shut its executor down, or run it in a TaskGroup.")
    return "\n".join(lines)


def _has_owner(thread: threading.Thread) -> bool:
    return (
        thread is threading.current_thread()
        or timer.owns(thread)
        or background.owns(thread)
        or shared_executor().owns(thread)
    )


def migrate(settings: Settings) -> None:
    """Bring the database of ``settings`` to the newest revision in ``migrations/``."""
    from alembic import command

    command.upgrade(_alembic(settings), "head")


def check_migrations(settings: Settings) -> None:
    """Fail where the models say something else than the migrated database of ``settings``."""
    from alembic import command, util

    try:
        command.check(_alembic(settings))
    except util.CommandError as difference:
        pytest.fail(f'{difference}\nWrite it down: make revision m="…"', pytrace=False)


def _alembic(settings: Settings) -> Config:
    from alembic.config import Config

    config = Config(toml_file="pyproject.toml")
    config.attributes["settings"] = settings
    return config


def close(app: flask.Flask) -> None:
    """End the threads and connections of ``app``; a process has one live app at a time."""
    runtime: Runtime = app.extensions["threadkit"]
    runtime.close()
