"""What the rooms of the kit share: lifecycle, requests in flight, readiness, statistics.

Import time declares, run time starts: a room adds a ``Resource`` to the runtime while the
application is assembled, and the runtime starts it in the process that will use it, after
the fork, or on first use. It closes them in the reverse order and collects what goes wrong.

Rooms on one floor do not import each other; what one shows of another goes through here.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from threadkit.concurrency import CancelScope
from threadkit.concurrency.timeline import Timeline
from threadkit.ledger import Ledger
from threadkit.settings import Settings

T = TypeVar("T")

REQUEST_RECORD = "threadkit.record"
"""Where a request's ``RequestRecord`` is in its WSGI environment."""


CANCELLED_BY_OPERATOR = "cancelled by an operator"
"""The reason of a request's scope that somebody ended on the admin address."""

CANCELLED_BY_STOP = "the worker is stopping"
"""The reason of a request's scope that a worker ended because it could not wait any longer."""

_numbers = itertools.count(1)


class Resource(Protocol):
    """Something that holds threads, sockets or files and therefore lives in one process."""

    def start(self) -> None:
        """Acquire; called once in the process that will use it."""

    def abandon(self) -> None:
        """Forget what a parent process acquired, without touching what it still uses."""

    def close(self) -> None:
        """Release; called once after ``start``, and never twice."""


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request in flight. The thread that serves it writes, others only look."""

    id: str
    method: str
    path: str
    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    """Seconds between the request's last byte and ``started``: backlog, line, pool."""
    thread_id: int = field(default_factory=threading.get_ident)
    route: str | None = None
    root: CancelScope | None = None
    """The outermost scope: cancelling it ends the request, whatever it is doing."""
    scope: CancelScope | None = None
    """The innermost scope of the request itself; None once the answer is complete."""
    client_left: bool = False
    """The client has gone, before the answer was complete: it is logged as 499."""
    dropped: bool = False
    """It was cut off with its worker, which has logged and counted it."""
    with_client: bool = False
    """The thread reads from the client or writes to it: the pace is not the handler's."""
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """Called once each, last one first, when the answer is complete."""
    number: int = field(default_factory=_numbers.__next__)
    """Its own in this process: clients choose ids, and may send the same one twice."""
    limit: float | None = None
    """Seconds that its route gives it; None for a stream, and until a route is found."""
    timeline: Timeline = field(default_factory=Timeline)
    cpu_started: float = field(default_factory=time.thread_time)
    """The CPU clock of the thread that serves it, when it began."""

    @property
    def age(self) -> float:
        """Seconds since it started."""
        return time.monotonic() - self.started


class View(NamedTuple):
    """A handler: where its code is, and what it serves. ``method`` is "" where several."""

    file: str
    name: str
    first: int
    last: int
    endpoint: str
    method: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service should be sent requests, and if not why: check → reason."""

    failures: Mapping[str, str]

    @property
    def ready(self) -> bool:
        """True where nothing fails."""
        return not self.failures

    def document(self) -> dict[str, Any]:
        """The answer of ``/readyz``, a problem document (RFC 9457) where it is not ready."""
        if self.ready:
            return {"status": "ready"}
        return {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": " ".join(f"{name}: {reason}" for name, reason in self.failures.items()),
            "checks": dict(self.failures),
        }


class Runtime:
    """The running half of one application.

    Thread-safe. ``start`` is idempotent in a process and starts afresh in a forked child.
    """

    def __init__(self, settings: Settings, *, service: str = "service") -> None:
        self.settings = settings
        self.service = service
        self.requests: set[RequestRecord] = set()
        self.views: Callable[[], Iterable[View]] = tuple
        """The handlers of the app, for profiles; the web room says how to list them."""
        self.ledger = Ledger()
        self._line: Callable[[], float] = lambda: 0.0
        self._sheds: Callable[[str, str], bool] = lambda method, target: False
        self._resources: list[tuple[str, Resource]] = []
        self._checks: dict[str, Callable[[], str | None]] = {}
        self._stats: dict[str, Callable[[], Mapping[str, Any]]] = {}
        self._at_request_end: list[Callable[[RequestRecord], None]] = []
        # What ``get`` has found: each query asks for the database.
        self._found: dict[type, object] = {}
        self._not_ready: dict[str, str] = {}
        self._last_checked: tuple[float, dict[str, str]] | None = None
        # Guards starting and closing: two first requests must not start a resource twice.
        # Resources are the kit's own, and none of them comes back to start or close.
        self._lock = threading.Lock()
        self._started_in: int | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "started" if self.started else "not started"
        names = ", ".join(name for name, _ in self._resources)
        return f"<Runtime {state}: {names or 'no resources'}; {len(self.requests)} requests>"

    @property
    def started(self) -> bool:
        """Whether the resources run in this very process."""
        return self._started_in == os.getpid()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def add(self, name: str, resource: Resource) -> None:
        """Have ``resource`` started with the service and closed in the reverse order."""
        if self._started_in is not None:
            msg = f"Cannot add {name!r}: the service has started. Add it while the app is built."
            raise RuntimeError(msg)
        self._resources.append((name, resource))

    def find(self, kind: type[T]) -> T | None:
        """The resource of this type, if there is one."""
        return next((each for _, each in self._resources if isinstance(each, kind)), None)

    def get(self, kind: type[T]) -> T:
        """The resource of this type."""
        try:
            return cast("T", self._found[kind])
        except KeyError:
            pass
        if (found := self.find(kind)) is not None:
            self._found[kind] = found
            return found
        msg = f"This app has no {kind.__name__}: build it with threadkit.init_app(app, settings)."
        raise RuntimeError(msg)

    def add_check(self, name: str, check: Callable[[], str | None]) -> None:
        """Have ``/readyz`` ask ``check``; it returns the reason why not, or None."""
        self._checks[name] = check

    def at_request_end(self, fn: Callable[[RequestRecord], None]) -> None:
        """Have ``fn`` called after the last byte of an answer, in the thread that served it."""
        self._at_request_end.append(fn)

    def request_ended(self, record: RequestRecord) -> None:
        """Everything of ``record`` is over; called once, by the room that opened it."""
        for fn in self._at_request_end:
            fn(record)

    def add_stats(self, name: str, stats: Callable[[], Mapping[str, Any]]) -> None:
        """Have metrics and the admin pages show what ``stats`` returns."""
        self._stats[name] = stats

    def start(self) -> None:
        """Start every resource in this process; where one fails, close those before it."""
        if self.started:
            return
        with self._lock:
            if self.started:
                return
            if self._closed:
                msg = "This app is closed. Build another one with create_app()."
                raise RuntimeError(msg)
            if self._started_in is not None:
                for _, resource in self._resources:
                    resource.abandon()
                self.requests.clear()
                self.ledger = Ledger()
            begun: list[tuple[str, Resource]] = []
            try:
                for name, resource in self._resources:
                    resource.start()
                    begun.append((name, resource))
            except BaseException:
                _close(begun)
                raise
            self._started_in = os.getpid()

    def close(self) -> None:
        """Close every resource in reverse; raises an ``ExceptionGroup`` of what failed."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self.started:
                return
            self._started_in = None
            errors = _close(self._resources)
        if errors:
            msg = "some resources did not close"
            raise ExceptionGroup(msg, errors)

    def set_line(self, fill: Callable[[], float]) -> None:
        """A worker that keeps a line in front of the application says how full it is, 0 to 1."""
        self._line = fill

    def line_fill(self) -> float:
        """How full the line in front of the application is, 0 to 1; 0 where nobody keeps one."""
        return self._line()

    def set_shedding(self, sheds: Callable[[str, str], bool]) -> None:
        """How a worker that keeps a line is to know, by method and target, whom to refuse first."""
        self._sheds = sheds

    def sheds(self, method: str, target: str) -> bool:
        """Whether such a request is refused as soon as the line is half full."""
        return self._sheds(method, target)

    def set_not_ready(self, name: str, reason: str) -> None:
        """Turn readiness off until further notice; a worker that stops calls it."""
        self._not_ready[name] = reason

    def readiness(self) -> Readiness:
        """Ask every check. A check that raises counts as failed, with its error as reason."""
        failures = {}
        for name, check in self._checks.items():
            try:
                reason = check()
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            if reason is not None:
                failures[name] = reason
        self._last_checked = time.monotonic(), failures
        return Readiness({**self._not_ready, **failures})

    def last_readiness(self) -> tuple[Readiness, float | None]:
        """What ``readiness`` said last and how many seconds ago, without asking anything.

        None seconds: nobody has asked yet. For pages that answer while the checks hang.
        """
        checked, failures = self._last_checked or (None, {})
        age = None if checked is None else time.monotonic() - checked
        return Readiness({**self._not_ready, **failures}), age

    def stats(self) -> dict[str, Mapping[str, Any]]:
        """Numbers of every room, by its name; of one that cannot tell them, its error."""
        return {name: _ask(stats) for name, stats in list(self._stats.items())}


def _ask(stats: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return stats()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _close(resources: list[tuple[str, Resource]]) -> list[Exception]:
    errors: list[Exception] = []
    for name, resource in reversed(resources):
        try:
            resource.close()
        except Exception as error:
            error.add_note(f"while closing {name!r}")
            errors.append(error)
    return errors


_NO_APP = (
    "There is no app in this process. Build one with create_app() and keep it, "
    "also in a script or a test, before using the database or the clients of the service."
)
_live: weakref.ref[Runtime] | None = None


def install(runtime: Runtime) -> None:
    """Make ``runtime`` the one of this process; a second live one is a ``RuntimeError``."""
    global _live
    if _other_is_live():
        gc.collect()  # an app that nobody holds any more is not live, only not yet collected
    if _other_is_live():
        msg = (
            "This process already has a live app: resources such as the database belong to one. "
            "Close the first with threadkit.testing.close(app) before you build a second."
        )
        raise RuntimeError(msg)
    _live = weakref.ref(runtime)


def _other_is_live() -> bool:
    other = _live() if _live is not None else None
    return other is not None and not other.closed


def current() -> Runtime:
    """The runtime of this process's app, started; ``RuntimeError`` where there is none."""
    runtime = _live() if _live is not None else None
    if runtime is None or runtime.closed:
        raise RuntimeError(_NO_APP)
    if not runtime.started:
        runtime.start()
    return runtime
