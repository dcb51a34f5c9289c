"""Work that goes on after the answer: bounded, named, and never lost without a word.

Go's counterpart is `go f()` after the answer, with the bookkeeping that a good service adds.

    background.submit(send_mail, order_id)      # returns at once

    background.configure(max_workers=4, queue_size=100, time_limit=30)   # when the service starts
    report = background.drain(timeout=5)                                 # when it stops
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Literal, ParamSpec, TypeVar

from ._future import ScopedFuture, describe
from ._parking import Parker
from .cancel_scope import RaisingScope, current
from .errors import Cancelled, Closed, Saturated
from .executor import BoundedExecutor
from .propagation import fresh_context
from .registry import register
from .scope import park

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DrainReport:
    """How a drain ended: `finished + len(dropped) == accepted`, always."""

    accepted: int
    finished: int
    dropped: tuple[str, ...]
    """The names of the tasks that never ran, were cancelled, or had not ended."""
    seconds: float


class _Job:
    """One accepted task. All fields are guarded by the Background's lock."""

    __slots__ = ("name", "outcome", "scope")

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcome: Literal["finished", "dropped"] | None = None
        self.scope: RaisingScope | None = None


class Background:
    """Runs what nobody waits for, on `max_workers` threads with `queue_size` in line.

    Each task has `time_limit` seconds of its own from its start, as its scope's deadline, and
    starts from a fresh context that holds only the registered variables (request id, log context,
    trace): the request's deadline does not end it, and the request itself is not there. Pass what
    it needs as arguments. What a task raises is logged, under its name.

    `submit` refuses with `Saturated` when the line is full and with `Closed` (also a `Saturated`)
    once draining began. Thread-safe. Threads start with the first task. Nothing is durable: what
    must survive the process belongs into a job queue. A forked child starts empty and open.
    """

    def __init__(self, name: str = "background") -> None:
        self.name = name
        self._max_workers = 4
        self._queue_size = 100
        self._time_limit: float | None = 30.0
        self._start_afresh()
        register("background", self)

    def _start_afresh(self) -> None:
        # _lock guards every field below it and the three above.
        self._lock = threading.Lock()
        self._executor: BoundedExecutor | None = None
        self._closing = False
        self._jobs: dict[_Job, None] = {}
        self._accepted = self._finished = self._failed = self._refused = 0
        self._dropped: list[str] = []
        self._drainers: list[Parker] = []

    def _after_fork(self) -> None:
        self._start_afresh()

    def configure(
        self, *, max_workers: int = 4, queue_size: int = 100, time_limit: float | None = 30.0
    ) -> None:
        """Set the sizes, and open it again after a drain. `time_limit` in seconds, or None."""
        if max_workers < 1 or queue_size < 0 or (time_limit is not None and not time_limit > 0):
            raise ValueError(
                f"{self.name}: max_workers={max_workers} must be at least 1, "
                f"queue_size={queue_size} at least 0, time_limit={time_limit} positive or None"
            )
        with self._lock:
            if self._executor is not None and not self._closing:
                raise RuntimeError(
                    f"{self.name} is at work already: configure it before the first submit, or "
                    "after drain()"
                )
            if self._closing:
                unsettled = self._jobs
                if unsettled:
                    raise RuntimeError(f"{self.name} is still draining: wait for drain()")
                self._closing = False
                self._executor = None
                self._accepted = self._finished = self._failed = self._refused = 0
                self._dropped = []
            self._max_workers = max_workers
            self._queue_size = queue_size
            self._time_limit = time_limit

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ScopedFuture[T]:
        """Accept `fn(*args, **kwargs)` to run later; its future need not be looked at."""
        job = _Job(describe(fn))
        executor = self._admit(job)
        work = partial(self._run, job, fn, args, kwargs)
        try:
            future = fresh_context().run(executor.submit, work)
        except Exception as error:
            self._unadmit(job)
            if isinstance(error, Saturated) and not isinstance(error, Closed):
                raise Saturated(
                    f"{self.name} is full: {self._max_workers} running and {self._queue_size} "
                    f"queued, so {job.name} was refused. Try again later, or raise its queue_size"
                ) from None
            raise
        future.add_done_callback(lambda done: self._settle_cancelled(job, done))
        return future

    def _admit(self, job: _Job) -> BoundedExecutor:
        with self._lock:
            if self._closing:
                self._refused += 1
                raise Closed(f"{self.name} is closed, so {job.name} was refused: try again later")
            if self._executor is None:
                self._executor = BoundedExecutor(
                    self._max_workers, self._queue_size, name=self.name
                )
            self._jobs[job] = None
            self._accepted += 1
            return self._executor

    def _unadmit(self, job: _Job) -> None:
        with self._lock:
            if job.outcome is None:  # else a drain has reported it as dropped already
                del self._jobs[job]
                self._accepted -= 1
                self._refused += 1
                self._wake_drainers()

    def _run(
        self, job: _Job, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        scope = RaisingScope(self._time_limit, name=job.name)
        with self._lock:
            job.scope = scope
            dropped = job.outcome is not None
        if dropped:
            scope.cancel("dropped before it started")
        outcome: Literal["finished", "dropped"] = "finished"
        failed = True
        try:
            with scope:
                scope.checkpoint()
                result = fn(*args, **kwargs)
            failed = False
        except BaseException as error:
            if isinstance(error, Cancelled) and error.scope is scope and self._closing:
                outcome = "dropped"
            else:
                _explain(error)
                _logger.exception("background task %s failed", job.name)
            raise
        finally:
            self._settle(job, outcome, failed=failed)
        return result

    def _settle(
        self, job: _Job, outcome: Literal["finished", "dropped"], *, failed: bool = False
    ) -> None:
        """Count a job's end; the first word counts, so that the sum always comes out."""
        with self._lock:
            if job.outcome is not None or job not in self._jobs:
                return
            job.outcome = outcome
            del self._jobs[job]
            if outcome == "finished":
                self._finished += 1
                self._failed += failed
            else:
                self._dropped.append(job.name)
            self._wake_drainers()

    def _wake_drainers(self) -> None:
        # Under _lock.
        if not self._jobs:
            for parker in self._drainers:
                parker.unpark()

    def _settle_cancelled(self, job: _Job, future: Future[Any]) -> None:
        if future.cancelled() or future.exception(0) is not None:
            self._settle(job, "dropped")  # it never started: a start would have settled it

    def drain(self, timeout: float, *, grace: float = 0.25) -> DrainReport:
        """Take no more; finish, then cancel, then report what was dropped.

        `timeout` seconds for what is queued and running; then the queue is dropped and the rest
        cancelled, with `grace` seconds to notice. Returns when all has ended, after
        `timeout + grace` at the latest, or when the current scope is over. Once is enough; later
        calls report the same.
        """
        began = monotonic()
        with self._lock:
            self._closing = True
            executor = self._executor
        if not self._wait_until_empty(timeout):
            if executor is not None:
                executor.shutdown(wait=False, cancel_futures=True)
            with self._lock:
                scopes = [job.scope for job in self._jobs if job.scope is not None]
            for scope in scopes:
                scope.cancel(f"{self.name} is draining")
            self._wait_until_empty(grace)
        with self._lock:
            left = list(self._jobs)
        for job in left:
            self._settle(job, "dropped")
        if executor is not None:
            executor.shutdown(wait=True, timeout=0 if left else grace)
        with self._lock:
            dropped = tuple(self._dropped)
            report = DrainReport(self._accepted, self._finished, dropped, monotonic() - began)
        if dropped:
            _logger.warning("%s dropped %d: %s", self.name, len(dropped), ", ".join(dropped))
        return report

    def close(self) -> DrainReport:
        """Drain without waiting for anything to finish."""
        return self.drain(0.0)

    def _wait_until_empty(self, seconds: float) -> bool:
        end = monotonic() + seconds
        parker = Parker()
        with self._lock:
            self._drainers.append(parker)
        try:
            while True:
                with self._lock:
                    if not self._jobs:
                        return True
                scope = current.get()
                left = end - monotonic()
                if left <= 0 or (scope is not None and scope.over):
                    return False
                park(parker, left)
        finally:
            with self._lock:
                self._drainers.remove(parker)

    def owns(self, thread: threading.Thread) -> bool:
        """True for one of its worker threads."""
        executor = self._executor
        return executor is not None and executor.owns(thread)

    def stats(self) -> dict[str, float]:
        """`pending` now; `accepted`, `finished` (`failed` among them), `dropped`, `refused`."""
        with self._lock:
            return {
                "pending": len(self._jobs),
                "running": sum(job.scope is not None for job in self._jobs),
                "max_workers": self._max_workers,
                "queue_size": self._queue_size,
                "accepted": self._accepted,
                "finished": self._finished,
                "failed": self._failed,
                "dropped": len(self._dropped),
                "refused": self._refused,
            }

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self._closing else "open"
        return (
            f"<Background {self.name!r} {state}, {stats['pending']} pending, "
            f"{stats['finished']} finished, {stats['dropped']} dropped>"
        )


def _explain(error: BaseException) -> None:
    """Tell the author of a task why the web framework's request is not there."""
    if isinstance(error, RuntimeError) and "Working outside of" in str(error):
        error.add_note(
            "A background task runs without the request that submitted it: read what it needs in "
            "the handler and pass it to background.submit() as arguments."
        )


background = Background()
"""The process's one; works with its defaults until someone configures it."""
