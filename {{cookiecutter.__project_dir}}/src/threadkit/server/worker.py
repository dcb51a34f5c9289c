"""The worker: gunicorn's own contract with a worker class, and nothing of gunicorn's loop.

gunicorn's ``gthread`` gives a connection to a thread as soon as it is accepted, puts what it
cannot serve into an endless line, and resets who is waiting when it stops. This one keeps a
connection until its request is complete, bounds the line, and leaves in order; ``serving``
says how. The master, its signals, the reload and the heartbeat are gunicorn's.

Only ``gunicorn.workers.base.Worker`` is built upon, which is gunicorn's public base of
worker classes. The master imports this module, so it must import nothing that may not be
there before the fork.
"""

from __future__ import annotations

import os
import resource
from typing import Any, Final

from threadkit.server import boot
from threadkit.server.gunicorn_names import Worker as Base
from threadkit.server.replacement import Replacement

_SPARE_FILES: Final = 256
"""Open files beside the clients' connections: databases, logs, the admin address."""
_SWITCH: Final = 0.001
"""Seconds that a handler may hold the interpreter lock while others want it; Python's own 5 ms
would let eight busy handlers keep the main thread from accepting and refusing for 40 ms each
time that it has let go of the lock, and that it does in every system call."""


class Worker(Base):  # type: ignore[misc]
    """gunicorn's ``worker_class``. The main thread runs it; ``count_request`` is thread-safe."""

    alive: bool
    _worn_out = False

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Nothing that the kit's own settings have not made sure of."""

    def init_process(self) -> None:
        """In the worker, before the application is loaded; returns when it has ended."""
        _allow_files(self.cfg.worker_connections + _SPARE_FILES)
        super().init_process()

    def load_wsgi(self) -> None:
        """Import the application; where that fails, one of the workers says why."""
        with boot.told_once():
            super().load_wsgi()

    def run(self) -> None:
        """Serve until told to stop, then leave in order."""
        # Not at the top: the master must not have loaded the metrics before the fork.
        from threadkit import runtime
        from threadkit.profiling.switching import SWITCHING
        from threadkit.server.serving import Serving

        SWITCHING.usually(_SWITCH)
        serving = Serving(self, runtime.current())
        replacement = Replacement(self)
        serving.poller.wake_by(self.PIPE[0], self._drain_pipe)
        serving.poller.listen(self.sockets, shared=self.cfg.workers > 1)
        while self.alive:
            self.notify()
            serving.turn()
            replacement.turn(wanted=self._worn_out)
            if os.getppid() != self.ppid:
                self.log.info("The master is gone, and so is %s", self)
                return
        serving.drain(self.notify)

    def count_request(self) -> None:
        """Be replaced after so many, where ``max_requests`` says so."""
        self.nr += 1
        if self.nr >= self.max_requests and not self._worn_out:
            self.log.info("%d requests (max_requests): the worker is replaced", self.nr)
            self.be_replaced()

    def be_replaced(self) -> None:
        """Have another worker started, serve until it does, and then leave. From any thread."""
        self._worn_out = True

    def _drain_pipe(self) -> None:
        # A signal writes here, so that the main loop wakes up.
        try:
            os.read(self.PIPE[0], 4096)
        except BlockingIOError:
            return


def _allow_files(count: int) -> None:
    """Raise the soft limit on open files where it is below what was asked for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
