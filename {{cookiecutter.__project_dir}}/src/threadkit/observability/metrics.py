"""Prometheus metrics of the requests, summed over all workers of the service.

A scrape reaches one worker and must show all of them, so each worker writes its numbers
to a mapped file of its own and ``render`` adds the files up. prometheus_client decides
for files when it is imported, by ``PROMETHEUS_MULTIPROC_DIR``: import this module only
once that is set, as the application does. Without it (a script, a test) the numbers are
those of this process.

Labels are bounded: a route is its pattern, and methods that nobody defined are ``OTHER``.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

import prometheus_client.values
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

_pid: int = os.getpid()


def _forked() -> None:
    global _pid
    _pid = os.getpid()


# The client asks for the process's number at every count, which is a system call.
os.register_at_fork(after_in_child=_forked)
if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue(  # type: ignore[no-untyped-call]
        process_identifier=lambda: _pid
    )

UNMATCHED: Final = "unmatched"
"""The route of a request that no route matched; its path must not become a label."""

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS: Final = Counter(
    "http_requests_total", "Requests answered.", ["method", "route", "status"]
)
DURATION: Final = Histogram(
    "http_request_duration_seconds",
    "Seconds from a request's first step to its last byte.",
    ["method", "route"],
    buckets=_BUCKETS,
)
IN_FLIGHT: Final = Gauge(
    "http_requests_in_flight",
    "Requests being answered now.",
    # Dead workers hold no requests: their files are dropped by the master.
    multiprocess_mode="livesum",
)


MALFORMED_LIMITS: Final = Counter(
    "http_malformed_time_limits_total", "Time limits of callers that could not be read."
)


RUNNING: Final = Gauge(
    "http_requests_running", "Requests that hold a place.", multiprocess_mode="livesum"
)
WAITING: Final = Gauge(
    "http_requests_waiting", "Requests in line for a place.", multiprocess_mode="livesum"
)
PLACES: Final = Gauge(
    "http_requests_places",
    "Requests that may run at once: CONCURRENCY, or less where LIMITER=aimd has found less.",
    multiprocess_mode="livesum",
)
REFUSED: Final = Counter(
    "http_requests_refused_total",
    "Requests that were not run: the line was full, the wait in it over, their time over "
    "before they came in, their route given up first, or too many bytes coming in (memory).",
    ["reason"],
)


CONNECTIONS: Final = Gauge(
    "database_connections",
    "Connections of a pool: in_use, idle, the most it may have (size), and threads waiting.",
    ["pool", "state"],
    multiprocess_mode="livesum",
)
DATABASE: Final = Counter(
    "database_events_total",
    "What happened to connections and queries: see the event label.",
    ["event"],
)
WAITED: Final = Counter(
    "database_wait_seconds_total", "Seconds that threads have waited for a connection.", ["pool"]
)
CONNECTIONS_NEEDED: Final = Gauge(
    "database_connections_needed",
    "Connections that a reload may open: workers x (read + write pool) x 2.",
    multiprocess_mode="max",
)
CONNECTIONS_ALLOWED: Final = Gauge(
    "database_connections_allowed",
    "Connections that the database server allows, 0 where it has no limit or was not asked yet.",
    multiprocess_mode="max",
)


class _Key(NamedTuple):
    method: str
    route: str
    status: int


# Children by their labels: labels() takes a lock and validates each time. Only ever grows,
# to methods x routes x statuses; two threads that miss at once get the same children.
_children: dict[_Key, tuple[Counter, Histogram]] = {}


def enter() -> None:
    """A request begins."""
    IN_FLIGHT.inc()


def leave(method: str, route: str | None, status: int, seconds: float) -> None:
    """A request that ``enter`` has counted ends."""
    IN_FLIGHT.dec()
    observe(method, route, status, seconds)


def observe(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answer; ``route`` is the pattern, or None where nothing matched."""
    key = _Key(method if method in _METHODS else "OTHER", route or UNMATCHED, status)
    children = _children.get(key)
    if children is None:
        children = _children[key] = (
            REQUESTS.labels(key.method, key.route, str(key.status)),
            DURATION.labels(key.method, key.route),
        )
    children[0].inc()
    children[1].observe(seconds)


def render() -> tuple[bytes, str]:
    """The numbers of the whole service, and their content type."""
    registry: CollectorRegistry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
