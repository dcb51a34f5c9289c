"""A worker's parts put together: what they hand to each other, and how they come to an end.

    poller ── complete request ──▶ line ── place ──▶ threads ──▶ answering ── back ──▶ poller

The end is in steps, each bounded: readiness turns false and new connections are still taken
for DRAIN_DELAY, since load balancers take that long to notice (neither where other workers have
come for this one: the service goes on, and they accept on the same listeners); then what has
connected already is taken in and the listeners are closed; then what runs is finished; and what
does not finish in time is cancelled and named.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from threadkit import runtime as runtimes
from threadkit.ladder import BACKGROUND_DRAIN
from threadkit.limits import SHEDS_AT
from threadkit.observability import metrics
from threadkit.server import dropped, presence
from threadkit.server.answering import Answering
from threadkit.server.connection import Connection, State
from threadkit.server.faults import CROWDED, EXPIRED, FULL, SHED, Fault
from threadkit.server.line import MOST_PATIENCE, PATIENCE, Line, Verdict
from threadkit.server.poller import Patience, Poller
from threadkit.server.saturation import Saturation
from threadkit.server.threads import Threads
from threadkit.server.watchdog import Watchdog
from threadkit.server.wire import Limits

log = structlog.get_logger("threadkit.server")

_TURN: Final = 1.0
"""Longest turn of the main loop in seconds: the master wants to hear from it."""
_LAST_REQUESTS: Final = 1.0
"""Seconds in which a client whose connection was kept may still send a request at the end."""
_CANCELLED: Final = 0.5
"""Seconds for cancelled requests to notice."""


class Serving:
    """All of it, for one worker. The main thread calls ``turn`` and ``drain``."""

    def __init__(self, worker: Any, runtime: runtimes.Runtime) -> None:
        settings, cfg = runtime.settings, worker.cfg
        self._worker = worker
        self._runtime = runtime
        self._settings = settings
        # As admission counts them; faults of the request itself are no refusals.
        self._counters = {
            FULL: metrics.REFUSED.labels("full"),
            EXPIRED: metrics.REFUSED.labels("waited"),
            SHED: metrics.REFUSED.labels("shed"),
            CROWDED: metrics.REFUSED.labels("memory"),
        }
        self._line = Line(settings.concurrency, settings.queue_size)
        self._answering = Answering(
            worker.wsgi,
            cfg,
            self._line,
            body_timeout=settings.body_timeout,
            write_timeout=settings.write_timeout,
            after_each=worker.count_request,
        )
        self.poller = Poller(
            patience=Patience(cfg.keepalive, settings.header_timeout, settings.body_timeout),
            limits=Limits(body=settings.max_body_bytes),
            most=cfg.worker_connections,
            most_bytes=settings.max_unfinished_bytes,
            busy=self._line.is_busy,
            ready=self._dispatch,
            faulty=self._refuse,
        )
        self._threads: Threads[Connection] = Threads(
            cfg.threads, lambda connection: self._answering.serve(connection, self.poller)
        )
        self._saturated = Saturation()
        runtime.set_line(self._line.fill)
        runtime.add_stats("line", self._line.stats)
        runtime.add_stats("connections", self.stats)

    def stats(self) -> dict[str, int]:
        """Connections, by whose they are, and the bytes of unfinished requests."""
        states = [connection.state for connection in list(self.poller.connections.values())]
        counted = {state.name.lower(): states.count(state) for state in State}
        return {
            **counted,
            "open": len(states),
            "dropped": self.poller.dropped,
            "unfinished_bytes": self.poller.unfinished.bytes,
        }

    def turn(self, timeout: float = _TURN) -> None:
        """One round of the main loop."""
        first = self._line.first()
        if first is not None:
            expires = first + self._settings.queue_timeout - time.monotonic()
            timeout = min(timeout, max(0.0, expires))
            if self._line.has_free_place():
                timeout = min(timeout, PATIENCE)
        self.poller.turn(timeout)
        if self._line.has_free_place():
            patience = MOST_PATIENCE if self._saturated() else PATIENCE
            while (connection := self._line.next(patience)) is not None:
                self._threads.give(connection)
        for connection in self._line.expired(time.monotonic() - self._settings.queue_timeout):
            self._refuse(EXPIRED, connection)

    def drain(self, alive: Callable[[], object]) -> None:
        """Come to an end; ``alive`` is called once a round, for the master to hear."""
        began = time.monotonic()
        grace = self._settings.graceful_timeout - BACKGROUND_DRAIN - 2 * _CANCELLED
        succeeded = presence.is_succeeded(self._worker.pid)
        if not succeeded:
            self._runtime.set_not_ready("worker", "It is stopping.")
        self._answering.closing = True
        self._turns(alive, began + self._accepts_for(succeeded=succeeded), lambda: False)
        self.poller.stop_listening()
        for listener in self._worker.sockets:
            listener.close()
        closed = time.monotonic()
        self._turns(alive, closed + _LAST_REQUESTS, lambda: not self.poller.connections)
        self.poller.let_go(quiet_since=time.monotonic())
        self._turns(alive, began + grace, lambda: not self.poller.connections)
        self._cut_off(alive, began)

    def _accepts_for(self, *, succeeded: bool) -> float:
        """Seconds for load balancers to notice; none where another worker has come for this one,
        or is coming because threads are stuck."""
        watchdog = self._runtime.find(Watchdog)
        stuck = watchdog is not None and watchdog.replacing
        return 0.0 if succeeded or stuck else self._settings.drain_delay

    def _turns(self, alive: Callable[[], object], until: float, done: Callable[[], bool]) -> None:
        while not done() and (left := until - time.monotonic()) > 0:
            alive()
            self.turn(min(left, _TURN))

    def _cut_off(self, alive: Callable[[], object], began: float) -> None:
        """Cancel what has not finished, and say what was dropped."""
        unfinished = list(self._runtime.requests)
        named = dropped.described(unfinished)
        for record in unfinished:
            if record.root is not None:
                record.root.cancel(runtimes.CANCELLED_BY_STOP)
        if unfinished:
            self._turns(alive, time.monotonic() + _CANCELLED, lambda: not self.poller.connections)
        left = len(self.poller.connections)
        self.poller.shut()
        stuck = self._threads.close(_CANCELLED)
        dropped.account_for(list(self._runtime.requests))  # who has not even noticed
        say = log.warning if unfinished or left or stuck else log.info
        say(
            "worker drained",
            seconds=round(time.monotonic() - began, 2),
            dropped_requests=named,
            dropped_connections=left,
            stuck_threads=stuck,
        )

    def _dispatch(self, connection: Connection, patient: bool) -> None:
        """A request is complete. The main thread is patient: it looks at the line each turn."""
        if connection.exempt:
            self._threads.give(connection)
            return
        # The line would hold it until a thread comes to its route: others need the place.
        if self._line.fill() >= SHEDS_AT and self._sheds(connection):
            self._refuse(SHED, connection)
            return
        verdict = self._line.enter(connection, patient=patient)
        if verdict is Verdict.RUN:
            self._threads.give(connection)
        elif verdict is Verdict.REFUSE:
            self._refuse(FULL, connection)

    def _sheds(self, connection: Connection) -> bool:
        method, target = connection.inflow.method_and_target()
        return self._runtime.sheds(method.decode("latin-1"), target.decode("latin-1"))

    def _refuse(self, fault: Fault, connection: Connection) -> None:
        if (counter := self._counters.get(fault)) is not None:
            counter.inc()
        head = bytes(connection.inflow.buffer[:4096])
        self._answering.refuse(fault, connection, head, self.poller)
