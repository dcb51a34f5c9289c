"""A thread pool that says no: bounded in threads and in what may wait for them.

Go's counterpart is a fixed set of worker goroutines behind a buffered channel. Python's own
`ThreadPoolExecutor` bounds its threads but queues without end, so an overload becomes memory and
latency; this one refuses, and the refusal is a policy:

    with BoundedExecutor(max_workers=4, queue_size=16, rejection="caller_runs") as executor:
        future = executor.submit(parse, document)
        print(future.result())   # waits no longer than the caller's scope lasts

The scope and all other context variables go along with every task.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import Context
from time import monotonic
from typing import Any, Literal, ParamSpec, TypeVar

from ._future import ScopedFuture, Task
from ._parking import Parker
from ._places import HelpTicket, Seat, ShutdownReport, Submitter
from .cancel_scope import current
from .errors import Cancelled, Closed, DeadlineExceeded, ExpiredInLine, Saturated
from .registry import register
from .scope import park

P = ParamSpec("P")
T = TypeVar("T")

Rejection = Literal["abort", "caller_runs", "discard", "discard_oldest"]
_REJECTIONS = ("abort", "caller_runs", "discard", "discard_oldest")
_numbers = itertools.count(1)

LINGER = 0.05
"""Seconds that a worker sits by for the next task before it goes back to the pool.

Waking a worker that sits by is cheaper than the pool's own hand-over. It may not be long: the end
of the interpreter waits for it.
"""


class BoundedExecutor(Executor):
    """At most `max_workers` tasks run and at most `queue_size` wait; `rejection` says what then.

    `submit` first waits for a place, at most `min(max_wait, remaining())` seconds (`max_wait` is
    0 unless given: it does not wait), first come first served. If there is still none:
    "abort" raises `Saturated`; "caller_runs" runs the task in the submitting thread; "discard"
    returns a future that holds a `Saturated`; "discard_oldest" does that to the task that waits
    longest and queues the new one. A task whose scope is over before it starts never runs.

    Thread-safe. Threads start with the first tasks, in an empty context, and end with
    `shutdown` (or `with`). After a fork the child's executor is empty and works; what was queued
    runs in the parent. It does not stop a running task: cancel the scope that it runs in. A task
    that waits for another task of the same executor can deadlock, as with any pool: use a
    `TaskGroup`, which cannot.
    """

    def __init__(
        self,
        max_workers: int,
        queue_size: int,
        rejection: Rejection = "abort",
        *,
        max_wait: float = 0.0,
        name: str | None = None,
    ) -> None:
        if max_workers < 1 or queue_size < 0:
            raise ValueError(
                f"max_workers={max_workers} must be at least 1 and queue_size={queue_size} "
                "at least 0"
            )
        if rejection not in _REJECTIONS:
            raise ValueError(f"rejection={rejection!r} must be one of {', '.join(_REJECTIONS)}")
        if rejection == "discard_oldest" and queue_size == 0:
            raise ValueError("discard_oldest needs a queue_size of at least 1 to discard from")
        self.name = name or f"executor-{next(_numbers)}"
        self.max_workers = max_workers
        self.queue_size = queue_size
        self.rejection: Rejection = rejection
        self.max_wait = max_wait
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._closed = False
        self._start_afresh()
        register("executor", self)

    def _start_afresh(self) -> None:
        # _lock guards every field below it, _closed too. Tasks run, futures are finished and
        # submitters wait outside it.
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._running: set[Task[Any] | HelpTicket] = set()
        self._queue: deque[Task[Any]] = deque()
        self._tickets: dict[HelpTicket, None] = {}
        self._line: deque[Submitter] = deque()
        self._seats: list[Seat] = []
        self._idle_waiters: list[Parker] = []
        self._submitted = self._completed = self._rejected = self._discarded = 0
        self._waited = self._longest_wait = 0.0

    def _after_fork(self) -> None:
        self._threads = weakref.WeakSet()
        self._start_afresh()

    # Submitting

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ScopedFuture[T]:
        """Run `fn(*args, **kwargs)` on a worker; the future's waits look at the scope."""
        task = Task(fn, args, kwargs)
        with self._lock:
            self._refuse_if_closed()
            self._submitted += 1
            place = self._find_place(task)
        if place == "new thread":
            self._start(task)
        elif place is None:
            self._submit_when_full(task)
        return task

    def _find_place(self, task: Task[Any]) -> Literal["worker", "new thread", "queue"] | None:
        # Under _lock.
        if len(self._running) < self.max_workers:
            return "new thread" if self._engage(task) else "worker"
        if len(self._queue) < self.queue_size:
            self._enqueue(task)
            return "queue"
        return None

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Closed(f"executor {self.name!r} has been shut down: submit before that")

    def _enqueue(self, task: Task[Any]) -> None:
        task.queued_at = monotonic()
        self._queue.append(task)

    def _engage(self, item: Task[Any] | HelpTicket) -> bool:
        """Give an item to a worker that sits by. True: there is none, the caller must `_start`."""
        # Under _lock.
        self._running.add(item)
        if not self._seats:
            return True
        seat = self._seats.pop()  # the last to sit down: its caches are the warmest
        seat.item = item
        seat.parker.unpark()
        return False

    def _start(self, item: Task[Any] | HelpTicket) -> None:
        """Give an item that has its place in _running to the pool's threads."""
        try:
            pool = self._pool or self._make_pool()
            # The pool may start a thread in here, and from Python 3.14 on that can inherit the
            # context: an empty one, or the first request's deadline would stay for ever.
            Context().run(pool.submit, self._work, [item])
        except BaseException:
            with self._lock:
                self._running.discard(item)
            raise

    def _make_pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    self.max_workers, self.name, initializer=self._adopt_thread
                )
            return self._pool

    def _adopt_thread(self) -> None:
        self._threads.add(threading.current_thread())

    def _submit_when_full(self, task: Task[Any]) -> None:
        if self.max_wait > 0 and self._wait_for_place(task):
            return
        if self.rejection == "discard_oldest":
            self._queue_instead_of_oldest(task)
            return
        with self._lock:
            self._rejected += 1
            self._discarded += self.rejection == "discard"
            self._submitted -= self.rejection == "abort"
        if self.rejection == "abort":
            raise self._full()
        if self.rejection == "caller_runs":
            task.run()
        else:
            self._discard(task)

    def _queue_instead_of_oldest(self, task: Task[Any]) -> None:
        oldest: Task[Any] | None = None
        with self._lock:
            place = self._find_place(task)  # it may have come free since submit looked
            if place is None:
                oldest = self._queue.popleft()
                self._enqueue(task)
                self._rejected += 1
                self._discarded += 1
        if place == "new thread":
            self._start(task)
        if oldest is not None:
            self._discard(oldest)

    def _discard(self, task: Task[Any]) -> None:
        if task.set_running_or_notify_cancel():
            task.set_exception(self._full())

    def _full(self) -> Saturated:
        return Saturated(
            f"executor {self.name!r} is full: {self.max_workers} running and {self.queue_size} "
            "queued. Try again later, or raise max_workers, queue_size or max_wait"
        )

    def _wait_for_place(self, task: Task[Any]) -> bool:
        submitter = Submitter(task)
        end = monotonic() + self.max_wait
        with self._lock:
            self._line.append(submitter)
        self._serve_line()  # a place may have come free since submit looked
        error: Cancelled | None = None
        try:
            while self._is_in_line(submitter):
                scope = current.get()
                if scope is not None and scope.over:
                    error = scope.error()
                    break
                if (left := end - monotonic()) <= 0:
                    break
                park(submitter.parker, left)
        finally:
            # Whoever takes a task out of the line runs or queues it, under the same lock: leaving
            # the line and being served exclude each other, and no task is lost or run unasked.
            with self._lock:
                unserved = submitter in self._line
                if unserved:
                    self._line.remove(submitter)
        if submitter.closed:
            raise Closed(f"executor {self.name!r} was shut down while this waited for a place")
        if unserved and error is not None:
            raise self._left_line(error)
        return not unserved

    def _is_in_line(self, submitter: Submitter) -> bool:
        with self._lock:
            return submitter in self._line

    def _left_line(self, error: Cancelled) -> Cancelled:
        with self._lock:
            self._rejected += 1
            self._submitted -= 1
        if isinstance(error, DeadlineExceeded):
            text = f"no free place in executor {self.name!r} before the deadline"
            return ExpiredInLine(text, error.scope)
        return error

    def _serve_line(self) -> None:
        starting: list[Task[Any]] = []
        with self._lock:
            while self._line and len(self._running) < self.max_workers:
                task = self._take_from_line()
                if self._engage(task):
                    starting.append(task)
            while self._line and len(self._queue) < self.queue_size:
                self._enqueue(self._take_from_line())
        for task in starting:
            self._start(task)

    def _take_from_line(self) -> Task[Any]:
        submitter = self._line.popleft()
        submitter.parker.unpark()
        return submitter.task

    # Helping, for task groups and caches

    def lend(self, ticket: HelpTicket) -> bool:
        """Run the ticket when a worker is free. False: shut down, there will be no help."""
        with self._lock:
            if self._closed:
                return False
            start = False
            if len(self._running) < self.max_workers:
                start = self._engage(ticket)
            else:
                ticket.queued_at = monotonic()
                self._tickets[ticket] = None
        if start:
            self._start(ticket)
        return True

    def lend_now(self, ticket: HelpTicket) -> bool:
        """Run the ticket if a worker is free at this moment; else do nothing and say False."""
        with self._lock:
            if self._closed or len(self._running) >= self.max_workers:
                return False
            start = self._engage(ticket)
        if start:
            self._start(ticket)
        return True

    def take_back(self, ticket: HelpTicket) -> None:
        """Forget a ticket that is no longer of use, if it still waits."""
        with self._lock:
            self._tickets.pop(ticket, None)

    # Working

    def _work(self, box: list[Task[Any] | HelpTicket]) -> None:
        # A box that is emptied: the pool's own frames keep their arguments, a failure's traceback
        # keeps those frames, and the future keeps the failure.
        work: Task[Any] | HelpTicket | Seat | None = box.pop()
        while work is not None:
            if isinstance(work, Seat):
                work = self._sit(work)
            else:
                work.run()
                work = self._next(work)

    def _next(self, done: Task[Any] | HelpTicket) -> Task[Any] | HelpTicket | Seat | None:
        with self._lock:
            self._running.discard(done)
            if isinstance(done, Task):
                self._completed += 1
            item = self._pick()
            if item is not None:
                self._running.add(item)
                self._count_wait(monotonic() - item.queued_at)
                return item
            if not self._running:
                for parker in self._idle_waiters:
                    parker.unpark()
            if self._closed:
                return None
            # In the same breath, so that a worker is always running or seated: one in between
            # would be missed by a submit, whose task would wait in the pool behind it.
            seat = Seat()
            self._seats.append(seat)
            return seat

    def _sit(self, seat: Seat) -> Task[Any] | HelpTicket | None:
        seat.parker.park(LINGER)
        with self._lock:
            if seat.item is None and seat in self._seats:
                self._seats.remove(seat)
            return seat.item

    def _pick(self) -> Task[Any] | HelpTicket | None:
        """The oldest of what waits, so that neither tasks nor tickets starve the other."""
        if self._tickets:
            ticket = next(iter(self._tickets))
            if not self._queue or ticket.queued_at < self._queue[0].queued_at:
                del self._tickets[ticket]
                return ticket
        task: Task[Any] | None = None
        if self._queue:
            task = self._queue.popleft()
        elif self._line:
            task = self._take_from_line()
            task.queued_at = monotonic()
        while self._line and len(self._queue) < self.queue_size:
            self._enqueue(self._take_from_line())
        return task

    def _count_wait(self, seconds: float) -> None:
        self._waited += seconds
        self._longest_wait = max(self._longest_wait, seconds)

    # Ending

    def shutdown(  # type: ignore[override]
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> ShutdownReport:
        """Take no more; report by name what did not run or did not end.

        Waits for what runs and what is queued, for at most `min(timeout, remaining())` seconds;
        with `cancel_futures` what is queued is cancelled instead. It does not raise when the time
        is over: what it left is in the report, and those threads end when their tasks do.
        """
        if wait and threading.current_thread() in self._threads:
            raise RuntimeError(
                f"a task of executor {self.name!r} cannot wait for its own end: call shutdown "
                "from outside, or with wait=False"
            )
        dropped: list[Task[Any]] = []
        with self._lock:
            self._closed = True
            if cancel_futures:
                dropped.extend(self._queue)
                self._queue.clear()
            for submitter in self._line:
                submitter.closed = True
                submitter.parker.unpark()
            self._line.clear()
            self._tickets.clear()  # their owners do the work themselves
            for seat in self._seats:
                seat.parker.unpark()
            self._seats.clear()
        cancelled = tuple(task.name for task in dropped if task.cancel())
        idle = self._wait_until_idle(timeout) if wait else False
        with self._lock:
            items = [*self._running, *self._queue]
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=idle)
        return ShutdownReport(cancelled, tuple(sorted(item.name for item in items)))

    def _wait_until_idle(self, timeout: float | None) -> bool:
        end = math.inf if timeout is None else monotonic() + timeout
        parker = Parker()
        with self._lock:
            self._idle_waiters.append(parker)
        try:
            while True:
                with self._lock:
                    if not self._running and not self._queue:
                        return True
                left = end - monotonic()
                scope = current.get()
                if left <= 0 or (scope is not None and scope.over):
                    return False
                park(parker, None if left == math.inf else left)
        finally:
            with self._lock:
                self._idle_waiters.remove(parker)

    # Looking

    def owns(self, thread: threading.Thread) -> bool:
        """True for a thread of this executor."""
        return thread in self._threads

    def stats(self) -> dict[str, float]:
        """Counts, and seconds that tasks waited in the queue (sum and longest)."""
        with self._lock:
            return {
                "active": len(self._running),
                "queued": len(self._queue),
                "submitters_waiting": len(self._line),
                "max_workers": self.max_workers,
                "queue_size": self.queue_size,
                "submitted": self._submitted,
                "completed": self._completed,
                "rejected": self._rejected,
                "discarded": self._discarded,
                "queue_wait_seconds_total": self._waited,
                "queue_wait_seconds_max": self._longest_wait,
            }

    def __repr__(self) -> str:
        stats = self.stats()
        state = "shut down" if self._closed else "open"
        return (
            f"<BoundedExecutor {self.name!r} {state}, {stats['active']}/{self.max_workers} "
            f"running, {stats['queued']}/{self.queue_size} queued, {self.rejection}>"
        )
