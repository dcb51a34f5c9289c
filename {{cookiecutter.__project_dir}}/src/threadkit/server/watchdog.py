"""The watchdog: a handler that ignores its deadline costs one worker, not the service.

A deadline stops whoever looks at it. A handler that waits without looking (a lock that is never
released, a library without a time-out) keeps its thread for ever, and gunicorn's own time-out
only looks at the main loop. This thread looks at the requests: one whose scope has been over for
WATCHDOG_GRACE is stuck. Then, once: every thread's stack goes to the log, the worker is no longer
ready, the master starts another worker, and this one stops accepting, finishes the requests that
are not stuck, and leaves.

Not counted is the time that a thread waits for its client, to read a body or to write: a slow
client must not be able to end a worker. In Go nobody comes to take a goroutine away either.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from threadkit import peers
from threadkit.profiling.collector import COLLECTOR
from threadkit.runtime import RequestRecord, Runtime
from threadkit.server.budget import Budget

log = structlog.get_logger("threadkit.server")

MOST: Final = 3
PERIOD: Final = 60.0
"""At most so many workers of a service are replaced in so many seconds."""

_LINGER: Final = 2.0
"""Seconds that a worker which only has stuck requests left still gives its connections: clients
that keep one alive may be sending a request just now."""


class Watchdog:
    """A ``Resource``: one thread that looks at the requests in flight. Thread-safe.

    Without a worker to replace (a script, a test client) it says what it sees and no more.
    """

    def __init__(
        self, runtime: Runtime, *, folder: Callable[[], Path | None] = peers.folder
    ) -> None:
        self._runtime = runtime
        self._grace = runtime.settings.watchdog_grace
        self._find_folder = folder
        self._replace: Callable[[], None] | None = None
        self._leave: Callable[[], None] | None = None
        self._leave_from = 0.0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        # Of the watching thread alone: since when a request's scope has been over.
        self._over: dict[RequestRecord, float] = {}
        self._seen: set[RequestRecord] = set()
        self._stuck_total = 0
        self.replacing = False
        """Whether this worker is on its way out, with threads that may never end."""

    def __repr__(self) -> str:
        state = "replacing the worker" if self.replacing else "watching"
        return f"<Watchdog {state if self._thread else 'asleep'}, {len(self._seen)} stuck>"

    def stats(self) -> Mapping[str, int]:
        """``stuck`` requests now, and all that were in this worker."""
        return {"stuck": len(self._seen), "stuck_total": self._stuck_total}

    def replace_by(self, replace: Callable[[], None], leave: Callable[[], None]) -> None:
        """What has this worker replaced, and what ends it once only stuck requests are left.

        Each is called once, on the watchdog's thread.
        """
        self._replace, self._leave = replace, leave

    def start(self) -> None:
        """Start to look."""
        self._stop.clear()
        self._thread = threading.Thread(
            # daemon is the net for a process that ends without closing; close() joins.
            target=self._run,
            name="watchdog",
            daemon=True,
        )
        self._thread.start()

    def abandon(self) -> None:
        """Forget the parent's thread and requests."""
        self._stop = threading.Event()
        self._thread = None
        self._over, self._seen = {}, set()

    def close(self) -> None:
        """Stop looking and join the thread."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(min(0.5, self._grace / 4)):
            try:
                self._look(time.monotonic())
            except Exception:
                log.exception("the watchdog failed to look; it goes on")

    def _look(self, now: float) -> None:
        requests = list(self._runtime.requests)
        over = {
            record: self._over.get(record, now)
            for record in requests
            if (scope := record.scope) is not None and scope.over and not record.with_client
        }
        self._over = over
        stuck = {record for record, since in over.items() if now - since >= self._grace}
        news, self._seen = stuck - self._seen, stuck
        if news:
            self._stuck_total += len(news)
            self._report(news)
        if stuck and not self.replacing:
            self._have_it_replaced(len(stuck), now)
        elif self.replacing and now >= self._leave_from and stuck.issuperset(requests):
            leave, self._leave = self._leave, None
            if leave is not None:
                leave()

    def _report(self, news: set[RequestRecord]) -> None:
        log.error(
            "a handler ignores its deadline",
            requests=[
                {"id": r.id, "method": r.method, "path": r.path, "seconds": round(r.age, 1)}
                for r in news
            ],
            # The first time only: the next ones are most likely stuck in the same place.
            **({"stacks": stacks()} if self._stuck_total == len(news) else {}),
        )

    def _have_it_replaced(self, count: int, now: float) -> None:
        reason = f"{count} of its requests ignore their deadline."
        self._runtime.set_not_ready("watchdog", reason)
        if self._replace is None:
            return
        if not Budget(self._find_folder(), "replacements", MOST, PERIOD).take():
            return  # asked again at the next look
        self.replacing = True
        self._leave_from = now + self._runtime.settings.drain_delay + _LINGER
        log.warning("this worker is being replaced", reason=reason)
        self._replace()


def stacks() -> str:
    """Where every thread of the process is, as text."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    with COLLECTOR.rests():
        parts = [
            f"{names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame))
            for ident, frame in _frames().items()
        ]
    return "\n".join(parts)


def _frames() -> Mapping[int, Any]:
    return sys._current_frames()
