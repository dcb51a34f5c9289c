"""What happens around the workers: gunicorn's server hooks, in the order of a life.

    master   on_starting → when_ready → (pre_fork | on_reload | pre_exec | child_exit)* → on_exit
    worker   post_fork → post_worker_init → (worker_int) → worker_exit

The master binds and cleans up; a worker starts the runtime of its application after the
fork and closes it before it leaves. What happens at a stop belongs into ``worker_exit``:
``worker_int`` is called for SIGINT and SIGQUIT, but not for SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from threadkit import listeners, machine, peers, runtime
from threadkit.server import (
    addresses,
    boot,
    gunicorn_names,
    metrics_folder,
    presence,
    protections,
    retirement,
    sizing,
)
from threadkit.server.succession import Succession
from threadkit.server.watchdog import Watchdog
from threadkit.settings import Settings

log = structlog.get_logger("threadkit.server")


class Hooks:
    """The hooks of one reading of the configuration."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def by_name(self) -> dict[str, Callable[..., None]]:
        """Every hook, by the name of gunicorn's setting."""
        return {
            "on_starting": self.on_starting,
            "when_ready": self.when_ready,
            "on_reload": self.on_reload,
            "pre_exec": self.pre_exec,
            "pre_fork": self.pre_fork,
            "post_fork": self.post_fork,
            "post_worker_init": self.post_worker_init,
            "worker_int": self.worker_int,
            "worker_exit": self.worker_exit,
            "child_exit": self.child_exit,
            "on_exit": self.on_exit,
        }

    def on_starting(self, arbiter: Any) -> None:
        """Before anything is bound or forked."""
        if not gunicorn_names.inherits_sockets() and not arbiter.cfg.reuse_port:
            for address in arbiter.cfg.address:
                addresses.check_public(address)
        addresses.bind_admin(self._settings.admin_bind)
        peers.claim()
        Succession(arbiter).install()

    def when_ready(self, arbiter: Any) -> None:
        """Both addresses are bound; the workers come next. Says what was decided."""
        cfg, settings = arbiter.cfg, self._settings
        log.info(
            "serving",
            address=gunicorn_names.listening(arbiter),
            admin=f"http://{settings.admin_bind}" if settings.admin_bind else "off",
            workers=cfg.workers,
            threads=cfg.threads,
            concurrency=settings.concurrency,
            request_timeout=settings.request_timeout,
            graceful_timeout=cfg.graceful_timeout,
        )
        self._say_size(arbiter)
        if off := protections.missing(cfg.worker_class_str):
            log.warning("some protections are off", because=off)

    def _say_size(self, arbiter: Any) -> None:
        cfg, at = arbiter.cfg, machine.read()
        said = sizing.decision(self._settings, workers=cfg.workers, threads=cfg.threads, at=at)
        log.info("sized", **said)
        if (too_many := sizing.warning(cfg.workers, at)) is not None:
            log.warning(too_many)

    def pre_fork(self, arbiter: Any, worker: Any) -> None:
        """In the master, before each worker."""
        if self._settings.cpu_affinity == "on":
            sizing.choose_core(worker, gunicorn_names.workers(arbiter))

    def post_fork(self, arbiter: Any, worker: Any) -> None:
        """In the worker, before anything else."""
        sizing.pin(worker)

    def on_reload(self, arbiter: Any) -> None:
        """SIGHUP; this is the new configuration. The admin listener is kept."""
        log.info("configuration read again", workers=arbiter.cfg.workers)

    def pre_exec(self, arbiter: Any) -> None:
        """USR2, in the child that becomes the new master: both share the admin address."""
        addresses.hand_over_admin(gunicorn_names.environment_of_next_master(arbiter))

    def post_worker_init(self, worker: Any) -> None:
        """The application is loaded: start what it needs, in this process."""
        global _serving
        _serving = runtime.current()
        gunicorn_names.quit_without_locks(worker)
        if (watchdog := _serving.find(Watchdog)) is not None:
            watchdog.replace_by(partial(retirement.retire, worker), _leave_stuck_threads)
        presence.announce(worker.pid)
        # Not at the top: the master must not have loaded the metrics before the fork.
        from threadkit.server.capacity import Capacity

        if (capacity := _serving.find(Capacity)) is not None:
            capacity.check(worker.cfg.workers)

    def worker_int(self, worker: Any) -> None:
        """SIGINT or SIGQUIT in the worker, which is about to leave."""
        # Ctrl-C reaches the whole process group, so SIGINT is followed by the master's
        # SIGQUIT, whose SystemExit would be raised in the midst of leaving and skip it.
        _leave_in_peace()

    def worker_exit(self, arbiter: Any, worker: Any) -> None:
        """In the worker, as its last act; for a worker that vanished also in the master."""
        if worker.pid != os.getpid():
            return
        _leave_in_peace()
        with _leaving:  # unless the watchdog is just doing it
            try:
                if _serving is not None:
                    _serving.close()
            finally:
                boot.settle(gunicorn_names.exit_code())
                if _has_stuck_threads():
                    os._exit(0)  # the interpreter would wait for them

    def child_exit(self, arbiter: Any, worker: Any) -> None:
        """In the master, once a worker is gone."""
        metrics_folder.worker_died(worker.pid)
        presence.forget(worker.pid)
        retirement.settle(arbiter, worker.pid)

    def on_exit(self, arbiter: Any) -> None:
        """In the master, last of all."""
        listeners.set_admin(None)
        peers.release()
        metrics_folder.release()


_serving: runtime.Runtime | None = None

# Held while this worker closes what it opened, which may end the process. Not by the master.
_leaving = threading.Lock()


def _has_stuck_threads() -> bool:
    watchdog = _serving.find(Watchdog) if _serving is not None else None
    return watchdog is not None and watchdog.replacing


def _leave_stuck_threads() -> None:
    """On the watchdog's thread, while the main thread still waits for requests that never end."""
    # Whoever is first does it. Waiting here could last for ever: closing joins this thread.
    if _serving is None or not _leaving.acquire(blocking=False):
        return
    # Not at the top: the master must not have loaded the metrics before the fork.
    from threadkit.server import dropped

    try:
        _serving.close()
    finally:
        stuck = list(_serving.requests)
        log.warning("the worker leaves its stuck threads behind", requests=dropped.described(stuck))
        dropped.account_for(stuck)
        os._exit(0)


def _leave_in_peace() -> None:
    # A function and not SIG_IGN: a signal that is pending already would complain of that.
    # Who does not leave in time is killed by the master all the same.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
