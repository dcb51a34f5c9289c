"""Admission: so many requests run, so many wait for so long, and the rest hear it at once.

Without it a service under overload works through an endless line for clients that have long
given up. It is WSGI middleware outside the framework and needs nothing but the worker's
threads, of which there are more than may run and wait: one is always left to refuse, and to
answer the health checks, which never stand in line.

Who is refused is counted by reason: ``full`` (the line), ``waited`` (QUEUE_TIMEOUT is over),
``late`` (the caller's limit was over before the request came in), ``shed`` (its route is
``@sheddable`` and the line half full).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from threadkit import arrival
from threadkit.concurrency import (
    Bulkhead,
    DeadlineExceeded,
    ExpiredInLine,
    Saturated,
    WaitedInVain,
)
from threadkit.limits import HEALTH, SHEDS_AT
from threadkit.observability import metrics
from threadkit.runtime import REQUEST_RECORD, RequestRecord
from threadkit.server.limiter import AdaptiveLimit
from threadkit.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REASONS: Final = ("full", "waited", "late", "shed")


class Admission:
    """Wraps a WSGI application; ``Saturated`` for a request that finds no place.

    A place is held until the answer is complete, a stream's until its last byte. The wait
    counts against the request's own time limit. ``is_sheddable`` is asked only while the line,
    or one that the worker keeps in front of it (``line_fill``), is half full. Thread-safe.
    """

    def __init__(
        self,
        app: WSGIApplication,
        settings: Settings,
        *,
        is_sheddable: Callable[[WSGIEnvironment], bool] = lambda _: False,
        line_fill: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._app = app
        self._most_waiting = settings.queue_size
        self._is_sheddable = is_sheddable
        self._line_fill = line_fill
        self._places = Bulkhead(
            "admission",
            max_concurrent=settings.concurrency,
            max_waiting=settings.queue_size,
            max_wait=settings.queue_timeout,
        )
        self._limiter = AdaptiveLimit(settings.concurrency) if settings.limiter == "aimd" else None
        # Children once and for all: looking one up takes a lock. Counting needs none of ours.
        self._counters = {reason: metrics.REFUSED.labels(reason) for reason in REASONS}
        self._refused = dict.fromkeys(REASONS, 0)

    def stats(self) -> Mapping[str, Any]:
        """Who runs and waits now, the limits, and how many were ``refused`` for which reason."""
        return {
            **self._places.stats(),
            "limiter": "fixed" if self._limiter is None else "aimd",
            "refused": dict(self._refused),
        }

    def publish(self) -> None:
        """Say how many wait, here and in the line that the worker keeps; called once a second."""
        in_front = round(self._line_fill() * self._most_waiting)
        metrics.WAITING.set(in_front + self._places.stats()["waiting"])

    def start(self) -> None:
        """As a ``Resource``: in a worker, say how many places there are."""
        metrics.PLACES.set(self._places.max_concurrent)

    def abandon(self) -> None:
        """Nothing: the places of a forked child are free by themselves."""

    def close(self) -> None:
        """Nothing: requests in flight keep their places."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") not in HEALTH:
            record: RequestRecord = environ[REQUEST_RECORD]
            self._admit(record, environ)
        return self._app(environ, start_response)

    def _admit(self, record: RequestRecord, environ: WSGIEnvironment) -> None:
        root = record.root
        if root is not None and root.over:
            self._count("late")
            if record.waited < arrival.NOISE:  # the caller's limit itself was next to nothing
                raise root.error()
            msg = f"the request had waited {record.waited:.3g} s before it came in"
            raise ExpiredInLine(msg, root)
        if not self._places.try_acquire():
            self._wait(environ)
        elif self._line_fill() >= SHEDS_AT and self._is_sheddable(environ):
            self._places.release()
            raise self._shed()
        metrics.RUNNING.inc()
        began, full = time.monotonic(), self._is_full()

        def leave() -> None:
            metrics.RUNNING.dec()
            self._places.release()
            if self._limiter is not None:
                self._adapt(self._limiter, record, time.monotonic() - began, busy=full)

        record.at_end.append(leave)

    def _wait(self, environ: WSGIEnvironment) -> None:
        line = self._places.stats()
        fill = line["waiting"] / (line["max_waiting"] or 1)
        if max(fill, self._line_fill()) >= SHEDS_AT and self._is_sheddable(environ):
            raise self._shed()
        try:
            self._places.acquire()
        except WaitedInVain:
            self._count("waited")
            raise
        except DeadlineExceeded:
            self._count("late")
            raise
        except Saturated:
            self._count("full")
            raise

    def _is_full(self) -> bool:
        return self._limiter is not None and (
            self._places.stats()["inside"] >= self._places.max_concurrent
        )

    def _adapt(
        self, limiter: AdaptiveLimit, record: RequestRecord, seconds: float, *, busy: bool
    ) -> None:
        limit = limiter.observe(record.route, seconds, busy=busy)
        if limit is not None:
            self._places.resize(limit)
            metrics.PLACES.set(limit)

    def _shed(self) -> Saturated:
        self._count("shed")
        return Saturated("the line is half full, and this route is @sheddable")

    def _count(self, reason: str) -> None:
        self._counters[reason].inc()
        self._refused[reason] += 1  # a statistic: two threads at once may count one
