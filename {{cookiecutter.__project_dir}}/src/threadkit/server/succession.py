"""A reload in which the old workers serve until the new ones can.

gunicorn stops the old workers as soon as it has forked the new ones, which then import the
application for seconds while clients wait; where they cannot start at all, or the configuration
is wrong, it ends the whole service. Here a SIGHUP whose configuration is refused changes nothing;
the old workers are stopped once every new one has loaded the application; and where one fails to,
the new ones go and the old ones stay. Each of these says so in the log.

Names of gunicorn's that this rests on, without their being documented:

``Arbiter.reload``           what SIGHUP does: ``app.reload``, ``setup``, ``on_reload``, forks,
                             ``manage_workers``, and a wait for the old ones to end
``Arbiter.manage_workers``   stops the oldest workers beyond ``num_workers``, starts missing ones
``Arbiter.reap_workers``, ``kill_worker``, ``setup``, ``worker_age``, ``WORKERS``, ``SIG_QUEUE``
``Arbiter.app.cfg``, ``app.reload``
                             the configuration; reading it ends with SystemExit where it is wrong
``Worker.age``               counts up with each worker that is forked
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Final

import structlog

from threadkit.server import boot, gunicorn_names, presence

log = structlog.get_logger("threadkit.server")

_TURN: Final = 0.05
_STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class _RefusedError(Exception):
    """The reload is over before anything was changed, or after it was put back."""


class Succession:
    """In the master: takes over what SIGHUP does. Its main thread alone uses it."""

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter
        self._read = arbiter.app.reload
        self._restart = arbiter.reload
        self._manage = arbiter.manage_workers
        self._reloading = False
        self._before: Any = None
        self._age = 0

    def install(self) -> None:
        """From now on the arbiter's reload is this one's."""
        self._arbiter.app.reload = self._read_configuration
        self._arbiter.reload = self._reload
        self._arbiter.manage_workers = self._manage_workers

    def _reload(self) -> None:
        arbiter = self._arbiter
        environ = dict(os.environ)
        boot.forget_failures()
        self._before, self._age, self._reloading = arbiter.app.cfg, arbiter.worker_age, True
        try:
            self._restart()
        except _RefusedError:
            # What a configuration has put there would reach workers that are started later.
            os.environ.clear()
            os.environ.update(environ)
        finally:
            self._reloading = False

    def _read_configuration(self) -> None:
        try:
            self._read()
        except (Exception, SystemExit) as error:
            self._arbiter.app.cfg = self._before
            log.error("the configuration is refused, nothing has changed: see stderr for why")
            raise _RefusedError from error

    def _manage_workers(self) -> None:
        arbiter = self._arbiter
        if self._reloading and arbiter.cfg.address != self._before.address:
            self._manage()
            return
        if self._reloading:
            self._wait_for_new_ones()
        self._mark_those_that_are_stopped()
        self._manage()

    def _wait_for_new_ones(self) -> None:
        arbiter = self._arbiter
        new = [pid for pid, worker in arbiter.WORKERS.items() if worker.age > self._age]
        until = time.monotonic() + arbiter.timeout
        while not self._is_told_to_stop():
            arbiter.reap_workers()
            if not all(pid in arbiter.WORKERS for pid in new) or time.monotonic() > until:
                self._give_up(new)
            if presence.all_loaded(new):
                break
            time.sleep(_TURN)

    def _mark_those_that_are_stopped(self) -> None:
        # Those that the master stops next, if the others serve: none of them turns readiness off.
        arbiter = self._arbiter
        pids = sorted(arbiter.WORKERS, key=lambda pid: arbiter.WORKERS[pid].age)
        surplus = len(pids) - arbiter.num_workers
        if surplus > 0 and presence.all_loaded(pids[surplus:]):
            for pid in pids[:surplus]:
                presence.succeed(pid)

    def _give_up(self, new: list[int]) -> None:
        arbiter = self._arbiter
        log.error("the new workers could not start: those that serve go on, as they were")
        for pid in new:
            # Those that have loaded the application may be answering; the others hang.
            number = signal.SIGTERM if presence.all_loaded([pid]) else signal.SIGKILL
            arbiter.kill_worker(pid, number)
        self._wait_for_end(new)
        arbiter.app.cfg = self._before
        arbiter.setup(arbiter.app)
        raise _RefusedError

    def _wait_for_end(self, pids: list[int]) -> None:
        # While they are counted, the master would stop the oldest workers for them.
        arbiter = self._arbiter
        until = time.monotonic() + arbiter.cfg.graceful_timeout
        while any(pid in arbiter.WORKERS for pid in pids):
            if time.monotonic() > until:
                for pid in pids:
                    arbiter.kill_worker(pid, signal.SIGKILL)
            arbiter.reap_workers()
            time.sleep(_TURN)

    def _is_told_to_stop(self) -> bool:
        """Look at the signals that wait, and leave them where they are."""
        waiting = gunicorn_names.pending(self._arbiter)
        for number in waiting:
            self._arbiter.SIG_QUEUE.put_nowait(number)
        return not _STOPS.isdisjoint(waiting)
