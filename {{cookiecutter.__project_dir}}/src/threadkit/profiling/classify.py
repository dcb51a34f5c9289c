"""What a thread waits for now, told from its stack: lock, queue, socket, database, pool, …

    >>> classify(sites_of(frame)).kind
    'database'

The leaf decides whether it waits at all (what it calls blocks, or not); the frames around
it decide what for: a thread in ``recv`` below psycopg waits for the database, one in
``recv`` alone for a socket. An idle worker of a pool is ``idle``, which nobody suffers from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Container, Sequence
from functools import lru_cache
from types import CodeType, FrameType
from typing import Final, NamedTuple

from threadkit.profiling.calling import calling
from threadkit.profiling.collector import COLLECTOR

RUNNING: Final = "running"
IDLE: Final = "idle"


class Site(NamedTuple):
    """Where a frame stands."""

    code: CodeType
    lasti: int
    line: int


class Wait(NamedTuple):
    """What a thread does: ``kind`` is one of ``KINDS``; ``call`` is what it calls, or ``""``."""

    kind: str
    call: str


KINDS: Final = (
    *(RUNNING, IDLE, "lock", "queue", "condition", "task", "line", "socket", "database", "pool"),
    *("sleep", "file", "process", "signal"),
)
"""``task``: another thread's result or end. ``line``: a place in a bulkhead or admission."""

_BLOCKING: Final = {
    name: kind
    for kind, names in {
        "lock": "acquire lock with _acquire_restore",
        "sleep": "sleep",
        "socket": "recv recv_into recvfrom recvmsg send sendall sendto sendfile accept connect "
        "getaddrinfo gethostbyname do_handshake poll select",
        "file": "read readinto readline write fsync flock",
        "process": "waitpid wait4 waitid",
        "signal": "sigwait sigtimedwait pause",
    }.items()
    for name in names.split()
}
_DATABASE_CALLS: Final = frozenset(
    {
        *("execute", "executemany", "executescript", "commit", "rollback", "fetchone", "fetchall"),
        *("fetchmany", "connect", "backup", "ping", "close", "wait", "wait_c"),
    }
)

# (part of the file's path, functions or None for all) → kind; the first that matches a frame.
_AROUND: Final[tuple[tuple[str, frozenset[str] | None, str], ...]] = (
    ("/concurrent/futures/thread.py", frozenset({"_worker"}), IDLE),
    ("/threadkit/concurrency/executor.py", frozenset({"_sit"}), IDLE),
    ("/threadkit/concurrency/timer.py", frozenset({"_run", "_wait_for_next"}), IDLE),
    # Whoever serves the admin address keeps nobody else waiting.
    *(
        (f"/threadkit/admin/{name}.py", None, IDLE)
        for name in ("server", "exchange", "client", "neighbours", "pprof_service")
    ),
    ("/threadkit/peers.py", frozenset({"_run"}), IDLE),
    ("/threadkit/observability/pulse.py", frozenset({"_run"}), IDLE),
    ("/threadkit/server/threads.py", frozenset({"_run"}), IDLE),
    ("/threadkit/server/poller.py", frozenset({"turn"}), IDLE),
    ("/threadkit/server/disconnect.py", frozenset({"_run"}), IDLE),
    ("/threadkit/server/watchdog.py", frozenset({"_run"}), IDLE),
    ("/gunicorn/workers/", frozenset({"run", "wait_for_events", "wait"}), IDLE),
    ("/threadkit/database/pool", None, "pool"),
    ("/threadkit/database/", None, "database"),
    ("/sqlalchemy/pool/", frozenset({"_do_get", "_checkout", "get", "wait"}), "pool"),
    ("/sqlalchemy/util/queue.py", None, "pool"),
    ("/psycopg/", None, "database"),
    ("/psycopg_binary/", None, "database"),
    ("/pymysql/", None, "database"),
    ("/sqlalchemy/engine/default.py", None, "database"),
    ("/threadkit/concurrency/bulkhead.py", None, "line"),
    ("/threadkit/server/admission.py", None, "line"),
    ("/threadkit/concurrency/scope.py", frozenset({"sleep"}), "sleep"),
    ("/threadkit/concurrency/singleflight.py", None, "task"),
    ("/threadkit/concurrency/", None, "task"),
    ("/concurrent/futures/_base.py", None, "task"),
    ("/threading.py", frozenset({"join", "_wait_for_tstate_lock"}), "task"),
    ("/subprocess.py", None, "process"),
    ("/queue.py", None, "queue"),
    ("/threading.py", None, "condition"),
    ("/multiprocessing/", None, "process"),
    ("/urllib3/", None, "socket"),
    ("/socket.py", None, "socket"),
    ("/ssl.py", None, "socket"),
    ("/selectors.py", None, "socket"),
)
_FAR: Final = 24
"""Frames from the leaf in which the reason is looked for."""


def sites_of(frame: FrameType | None, deepest: int = _FAR) -> list[Site]:
    """Where a stack stands, leaf first."""
    found: list[Site] = []
    while frame is not None and len(found) < deepest:
        found.append(Site(frame.f_code, frame.f_lasti, frame.f_lineno or 0))
        frame = frame.f_back
    return found


def stacks(deepest: int = _FAR, only: Container[int] | None = None) -> dict[int, list[Site]]:
    """Where each thread stands, by its identifier: all of them, or those of ``only``."""
    with COLLECTOR.rests():
        return {
            ident: sites_of(frame, deepest)
            for ident, frame in sys._current_frames().items()
            if only is None or ident in only
        }


def classify(sites: Sequence[Site]) -> Wait:
    """What the thread with this stack, leaf first, waits for."""
    call = calling(sites[0].code, sites[0].lasti) if sites else ""
    return Wait(_kind(sites, call) if call else RUNNING, call)


def _kind(sites: Sequence[Site], call: str) -> str:
    around = _around(sites)
    kind = _BLOCKING.get(call)
    if kind is None:
        return _unlisted(sites[0].code.co_filename, call, around)
    # What a stack stands in says more than what its leaf calls, but for calls that say it all,
    # and for a plain lock that guards the real thing.
    if kind in ("sleep", "signal", "process"):
        return kind
    if around is None or (kind == "lock" and around in ("socket", "database", "process")):
        return kind
    return around


def _unlisted(file: str, call: str, around: str | None) -> str:
    """Calls whose name alone does not say that they block."""
    if call in ("get", "put") and around in (None, IDLE):
        # SimpleQueue is C all the way. A dictionary's get is over before anyone can look.
        return around or "queue"
    if call == "join" and file.endswith("/threading.py"):
        return "task"
    waits = around == "database" and call in _DATABASE_CALLS
    return "database" if waits or call == "executemany" else RUNNING


_PLUMBING: Final = frozenset({"condition", "socket", "task", "queue"})
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep


def _around(sites: Sequence[Site]) -> str | None:
    """What the frames near the leaf belong to, up to the first that is nobody's known.

    Plumbing carries something else: a condition in a queue, a socket in a driver. It stands
    until a frame further out knows better.
    """
    seen: str | None = None
    for site in sites[:_FAR]:
        kind = _rule(site.code)
        if kind is None:
            if not site.code.co_filename.startswith(_LIBRARY) or _SITE in site.code.co_filename:
                return seen
        elif kind not in _PLUMBING:
            return kind
        elif seen is None or (seen == "condition" and kind != "condition"):
            seen = kind
    return seen


_SITE: Final = f"{os.sep}site-packages{os.sep}"


@lru_cache(maxsize=4096)
def _rule(code: CodeType) -> str | None:
    for part, names, kind in _AROUND:
        if part in code.co_filename and (names is None or code.co_name in names):
            return kind
    return None
