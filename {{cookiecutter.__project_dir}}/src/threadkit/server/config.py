"""gunicorn's settings, derived from the service's own.

    # gunicorn.conf.py
    globals().update(gunicorn_settings(Settings, Path(__file__).parent))

The file is read by the master: at the start, and again at each SIGHUP.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import structlog

from threadkit import misspelt
from threadkit.observability import logs
from threadkit.server import metrics_folder
from threadkit.server.hooks import Hooks
from threadkit.server.logger import Logger
from threadkit.settings import Settings, SettingsError

log = structlog.get_logger("threadkit.server")

HEADROOM: Final = 4
"""Threads beyond those that run and wait: health checks and refusals need one, too."""

_HEARTBEAT_TIMEOUT: Final = 30
"""Seconds after which a worker whose main loop is stuck is replaced. Not a request limit."""

_KEEPALIVE: Final = 75
"""Seconds an idle connection is kept: longer than load balancers keep theirs (mostly 60),
or they send a request into a connection that is being closed."""

_SPARE_CONNECTIONS: Final = 32
"""gunicorn can lock up when a worker may hold hardly more connections than it has threads."""


def gunicorn_settings(settings_class: type[Settings], project_dir: Path) -> dict[str, Any]:
    """What ``gunicorn.conf.py`` has to hold. Faulty settings end the reading with a message.

    That ends a start; a reload of a service that runs it does not, see ``succession``.
    """
    try:
        with contextlib.chdir(project_dir):  # where the service will run: SQLite's path is relative
            settings = settings_class.load()
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    logs.configure(settings)
    for warning in misspelt.warnings(os.environ, settings_class.model_fields):
        log.warning(warning)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # Until gunicorn has a handler of its own, a stop must still clean up behind itself.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    metrics_folder.claim()
    package = settings_class.__module__.rpartition(".")[0]
    return {
        **_process(settings, package, project_dir),
        **_connections(settings),
        **Hooks(settings).by_name(),
    }


def threads(settings: Settings) -> int:
    """Threads of a worker's pool: what runs, what waits, and headroom.

    With fewer, requests would wait in gunicorn's own endless line, which admission cannot
    see; and idle or slow connections, which hold a thread each, would starve the others.
    """
    return settings.concurrency + settings.queue_size + HEADROOM


def _process(settings: Settings, package: str, project_dir: Path) -> dict[str, Any]:
    return {
        "wsgi_app": f"{package}.wsgi:application",
        "chdir": str(project_dir.resolve()),
        "worker_class": settings.worker_class,
        "workers": settings.workers,
        "threads": threads(settings),
        "timeout": _HEARTBEAT_TIMEOUT,
        "graceful_timeout": math.ceil(settings.graceful_timeout),
        # The heartbeat touches a file; on a disk that stalls, workers would seem dead.
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
        # A way in that nobody asked for; on by default.
        "control_socket_disable": True,
        "logger_class": Logger,
        "loglevel": settings.log_level.lower(),
        # The service writes a line of its own for each request.
        "accesslog": None,
        "errorlog": "-",
    }


def _connections(settings: Settings) -> dict[str, Any]:
    return {
        "bind": [settings.bind],
        "backlog": 2048,
        "keepalive": _KEEPALIVE,
        "worker_connections": max(settings.max_connections, threads(settings) + _SPARE_CONNECTIONS),
        # The fast parser needs a package that does not install everywhere.
        "http_parser": "python",
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        # Nobody: gunicorn would believe any process on this machine. X-Forwarded-* are
        # the web room's, which counts TRUSTED_PROXIES hops from the right.
        "forwarded_allow_ips": "",
    }
