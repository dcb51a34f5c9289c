"""The names of gunicorn that this room relies on without their being documented.

An upgrade that moves one fails its contract test by name instead of a service at night.

``Arbiter.LISTENERS``        the public sockets, each of which prints as its address
``Arbiter.WORKER_BOOT_ERROR``, ``APP_LOAD_ERROR``
                             exit codes of a worker by which the master halts
``Config.env_orig``          what the environment was; USR2 gives the new master a copy,
                             made after ``pre_exec``
``Arbiter.WORKERS``          the workers that have not been reaped, by their pid
``Arbiter.num_workers``      workers that there should be; SIGTTIN adds one, a reload resets it
``Arbiter.SIG_QUEUE``        signals that have come and are not dealt with yet
``Worker.handle_quit``       what a worker does on SIGINT and SIGQUIT: ``worker_int``, then exit
``Worker.load_wsgi``         imports the application; ``AppImportError`` where there is none
``Worker.PIPE``, ``ppid``, ``sockets``, ``nr``, ``max_requests``, ``alive``
                             what a worker class finds in its base: a pipe to which signals
                             write, the master's number, the listeners, the count of requests
``Request(cfg, unreader, peer, number)``, ``set_body_reader``
                             the parser of a head; reads by ``unreader.read()`` and ``unread()``
``Response.default_headers``, ``send_headers``, ``_emit_body``, ``write``, ``close``
                             the writer of an answer, of which only what is sent goes elsewhere
``Response.response_length``, ``sent``, ``_omits_body``, ``must_close``, ``chunked``
                             what it knows of the answer: announced, written, without a body
``base_environ``             the part of a WSGI environment that is the same for all requests
``http.errors``              what the parser raises
``GUNICORN_PID``, ``GUNICORN_FD``, ``LISTEN_FDS``
                             variables that say which sockets are inherited
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import signal
import sys
from typing import Any, Final, cast

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.errors import AppImportError  # type: ignore[import-untyped]
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.http.message import Request  # type: ignore[import-untyped]
from gunicorn.http.wsgi import Response, base_environ  # type: ignore[import-untyped]
from gunicorn.workers.base import Worker  # type: ignore[import-untyped]

__all__ = [
    "BOOT_FAILURE",
    "BOOT_FAILURES",
    "AppImportError",
    "Request",
    "Response",
    "Worker",
    "base_environ",
    "environment_of_next_master",
    "errors",
    "exit_code",
    "inherits_sockets",
    "listening",
    "pending",
    "quit_without_locks",
    "replaces_a_master",
]

BOOT_FAILURE: Final[int] = Arbiter.WORKER_BOOT_ERROR
BOOT_FAILURES: Final = frozenset({Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR})


def listening(arbiter: Any) -> str:
    """The public addresses that are bound, for people."""
    return " ".join(str(listener) for listener in arbiter.LISTENERS)


def inherits_sockets() -> bool:
    """Whether the public sockets come from a former master or from systemd."""
    return "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ


def replaces_a_master() -> bool:
    """Whether this process is the new master that USR2 makes."""
    return "GUNICORN_PID" in os.environ


def environment_of_next_master(arbiter: Any) -> dict[str, str]:
    """What a hook adds here in ``pre_exec`` is in the new master's environment."""
    return cast("dict[str, str]", arbiter.cfg.env_orig)


def workers(arbiter: Any) -> list[Any]:
    """Those that there are now, as the objects from which they were forked."""
    return list(arbiter.WORKERS.values())


def pending(arbiter: Any) -> list[int]:
    """In the master's main thread: take the signals that it has not dealt with yet, in order."""
    taken: list[int] = []
    with contextlib.suppress(queue.Empty):
        while True:
            taken.append(arbiter.SIG_QUEUE.get_nowait())
    return taken


def one_worker_less(arbiter: Any) -> None:
    """Undo one SIGTTIN, unless a reload has done so already.

    In the midst of a reload it may still wait to be dealt with; then it is taken back.
    Two that arrive together can be one to the kernel; the configured number is the least.
    """
    if arbiter.num_workers > arbiter.cfg.workers:
        arbiter.num_workers -= 1
        return
    waiting = pending(arbiter)
    if signal.SIGTTIN in waiting:
        waiting.remove(signal.SIGTTIN)
    for number in waiting:
        arbiter.SIG_QUEUE.put_nowait(number)


def quit_without_locks(worker: Any) -> None:
    """Have SIGINT and SIGQUIT end this worker, whatever its main thread is just doing.

    gthread's own handler first shuts its pool down, for which it takes the pool's lock. The
    handler runs on the main thread, and where that is handing over a request it holds this
    very lock: the worker then hangs until it is killed. The interpreter waits for the pool's
    threads at its exit anyway.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, functools.partial(Worker.handle_quit, worker))


def exit_code() -> int:
    """With which code this worker is about to end; 0 where nothing says otherwise."""
    error = sys.exc_info()[1]
    code = error.code if isinstance(error, SystemExit) else 0
    return code if isinstance(code, int) else int(code is not None)
