"""Structured concurrency: what a block starts has ended when the block ends.

Go's counterpart is `errgroup.Group` with `SetLimit` and its context.

    with TaskGroup(limit=4) as group:
        price = group.start(price_of, item_id)
        stock = group.start(stock_of, item_id)
    print(price.result(), stock.result())

The first failure cancels the others; the exit waits for all, always; what failed comes out as an
`ExceptionGroup`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from ._future import Task
from ._parking import Parker
from ._places import HelpTicket
from .cancel_scope import CancelScope, current
from .errors import Cancelled
from .executor import BoundedExecutor
from .shared_executor import shared_executor
from .timeline import Span

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


class GroupTask(Task[T]):
    """A child's future. Waiting for it inside the block may run the child in the waiting thread."""

    def __init__(
        self,
        group: TaskGroup,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(fn, args, kwargs)
        self._group: TaskGroup | None = group

    def result(self, timeout: float | None = None) -> T:
        """The child's result, or its exception raised."""
        self._help(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The child's exception, or None."""
        self._help(timeout)
        return super().exception(timeout)

    def _help(self, timeout: float | None) -> None:
        group = self._group
        if group is not None and timeout is None and not self.done():
            group._run_instead_of_waiting(self)


class TaskGroup:
    """A block that starts children on a bounded executor and joins all of them at its end.

    At most `limit` children run at once (None: as many as the executor has threads for). They
    borrow threads of `executor` (the process's shared one unless given). A child that gets none
    waits here, not in the executor's queue, and the joining thread runs it: groups within groups
    on a small, busy or shut down executor always finish.

    Children run in a copy of the starting context, in the group's own scope: it obeys the scopes
    around the block, is cancelled by the first failure, and `cancel()` ends it quietly. A child
    never starts once it is over. At the end:

    - failures of children and of the block come out as one `ExceptionGroup`; a `Cancelled` that
      was the group's doing is not among them;
    - a cancellation from around the group comes out as itself, when nothing failed;
    - KeyboardInterrupt, SystemExit and the like, in the block or in a child, come out as
      themselves.

    `start`, `map` and `cancel` are thread-safe; children may start siblings. It does not
    interrupt a child that never looks at its scope: the join waits for it. A child may wait for
    another's result, but not for another to be under way (a barrier), since with few threads
    they run one after another. Children that have not started are kept in a list without bound;
    for long inputs use `map`. A forked child
    process must not leave a group that it inherited; groups that it makes itself work.
    """

    def __init__(
        self, limit: int | None = None, *, executor: BoundedExecutor | None = None, name: str = ""
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit} must be at least 1, or None for no limit")
        self.name = name
        self.limit = limit
        self.scope = CancelScope(name=name or "task group")
        self._executor = executor
        # _lock guards every field below it. Children run and futures are finished outside it.
        self._lock = threading.Lock()
        self._state = "new"
        self._waiting: deque[GroupTask[Any]] = deque()
        self._running = 0
        self._runners: dict[int, int] = {}  # thread id → children it runs now, nested
        self._tickets: set[HelpTicket] = set()
        self._tasks: list[GroupTask[Any]] = []  # what `start` returned, for `results`
        self._failures: list[BaseException] = []
        self._cut_short: Cancelled | None = None  # a child was, by a scope around the group
        self._joiner: Parker | None = None
        self._finished = 0

    # Starting

    def start(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> GroupTask[T]:
        """Start `fn(*args)` as a child; raises `Cancelled` if the group is over already."""
        return self._start(GroupTask(self, fn, args, kwargs), keep=True)

    def map(
        self, fn: Callable[[A], T], items: Iterable[A], *, window: int | None = None
    ) -> Iterator[T]:
        """Yield `fn(item)` in the items' order, with at most `window` items under way.

        Lazy: it draws an item only when there is room, so an endless iterator is fine and memory
        stays bounded. `window` is twice the limit (or the executor's threads) unless given. Use
        it inside the block. Leaving the loop early leaves the children that run to the join.
        """
        if window is None:
            window = 2 * (self.limit or self._pool().max_workers)
        if window < 1:
            raise ValueError(f"window={window} must be at least 1")
        return self._map(fn, iter(items), window)

    def _map(self, fn: Callable[[A], T], items: Iterator[A], window: int) -> Iterator[T]:
        under_way: deque[GroupTask[T]] = deque()
        try:
            for item in items:
                under_way.append(self._start(GroupTask(self, fn, (item,), {}), keep=False))
                if len(under_way) >= window:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for task in under_way:
                task.cancel()

    def cancel(self, reason: str = "the group was cancelled") -> None:
        """End the children and the block, quietly: the block's end raises nothing for it."""
        self.scope.cancel(reason)

    @property
    def results(self) -> list[Any]:
        """The results of what `start` started, in that order; raises what a child raised."""
        with self._lock:
            tasks = list(self._tasks)
        return [task.result() for task in tasks]

    def _pool(self) -> BoundedExecutor:
        return self._executor if self._executor is not None else shared_executor()

    def _start(self, task: GroupTask[T], *, keep: bool) -> GroupTask[T]:
        if self._state == "open":
            self.scope.checkpoint()
        with self._lock:
            is_open = self._state == "open"
            if is_open:
                self._waiting.append(task)
                if keep:
                    self._tasks.append(task)
                if self._joiner is not None:  # a child started it: the join may run it
                    self._joiner.unpark()
        if not is_open:
            raise RuntimeError(f"{self!r} takes no children: call start() in its `with` block")
        self._ask_for_help()
        return task

    def _ask_for_help(self) -> None:
        """Lend a worker for each waiting child that the limit lets run."""
        while True:
            with self._lock:
                room = self.limit is None or self._running + len(self._tickets) < self.limit
                if not room or len(self._tickets) >= len(self._waiting):
                    return
                ticket = HelpTicket(self._redeem, self.name or "task group")
                self._tickets.add(ticket)
            lent = False
            try:
                lent = self._pool().lend(ticket)
            except RuntimeError:
                pass  # no thread can be started (a limit, the interpreter's end): join runs it
            with self._lock:
                # The join may have run everything meanwhile and taken its tickets back, this one
                # too soon.
                late = self._state == "joined"
                if not lent:
                    self._tickets.discard(ticket)
            if late:
                self._pool().take_back(ticket)
            if late or not lent:
                return

    # Running

    def _redeem(self, ticket: HelpTicket) -> None:
        with self._lock:
            self._tickets.discard(ticket)
            task = self._claim()
        if task is not None:
            self._run(task)

    def _claim(self) -> GroupTask[Any] | None:
        """Under _lock: take the next waiting child, if the limit allows one more."""
        if not self._waiting or (self.limit is not None and self._running >= self.limit):
            return None
        self._running += 1
        return self._waiting.popleft()

    def _run(self, task: GroupTask[Any]) -> None:
        """Run a claimed child in this thread, whichever that is."""
        me = threading.get_ident()
        with self._lock:
            self._runners[me] = self._runners.get(me, 0) + 1
        try:
            context = task.context
            if context is not None:
                context.run(current.set, self.scope)
                task.run()
        finally:
            if not task.done():  # a signal's exception came between two of our own lines
                task.set_exception(RuntimeError("the child was interrupted before it ran"))
            failure = self._judge(task)
            with self._lock:
                self._runners[me] -= 1
                if not self._runners[me]:
                    del self._runners[me]
                self._running -= 1
                self._finished += 1
                if failure is not None:
                    self._failures.append(failure)
            task._group = None
            if failure is not None:
                self.scope.cancel(f"a sibling failed: {type(failure).__name__}: {failure}")
            self._ask_for_help()
            with self._lock:
                if self._joiner is not None:
                    self._joiner.unpark()

    def _judge(self, task: GroupTask[Any]) -> BaseException | None:
        if task.cancelled():
            return None
        error = task.exception(0)
        if isinstance(error, Cancelled) and self._is_ours(error):
            if error.scope is not self.scope:
                with self._lock:
                    self._cut_short = error
            return None
        return error

    def _is_ours(self, error: Cancelled) -> bool:
        """True if the error is that of the group's scope or of one around it."""
        scope: CancelScope | None = self.scope
        while scope is not None:
            if error.scope is scope:
                return True
            scope = scope.parent
        return False

    def _run_instead_of_waiting(self, task: GroupTask[Any]) -> None:
        """Called before a wait for `task`: if it has not started, nobody may ever start it.

        A child that waits for a sibling holds a place within the limit and does not use it while
        it waits, so it may run the sibling in its place whatever the limit says.
        """
        with self._lock:
            holds_place = threading.get_ident() in self._runners
            full = self.limit is not None and self._running >= self.limit
            if task not in self._waiting or (full and not holds_place):
                return
            self._waiting.remove(task)
            self._running += 1
        self._run(task)

    # The block

    def __enter__(self) -> TaskGroup:
        with self._lock:
            is_new = self._state == "new"
            if is_new:
                self._state = "open"
        if not is_new:
            raise RuntimeError(f"{self!r} was entered before: make a new TaskGroup for each `with`")
        if self._executor is None:
            self._executor = shared_executor()
        self.scope.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if exc is not None:
            self.scope.cancel(f"the block failed: {type(exc).__name__}: {exc}")
        with Span("join", self.name or "task group"):
            interrupt = self._join()
        self.scope.__exit__(None, None, None)
        return self._conclude(exc, interrupt)

    def _join(self) -> BaseException | None:
        """Wait until every child has ended, running those that wait; nothing ends it early."""
        interrupt: BaseException | None = None
        parker = Parker()
        while True:
            try:
                with self._lock:
                    self._joiner = parker
                    task = self._claim()
                    if task is None and not self._running and not self._waiting:
                        self._state = "joined"
                        tickets, self._tickets = self._tickets, set()
                        break
                if task is not None:
                    self._run(task)
                else:
                    parker.park()  # not park(): cancelling ends the children, not the join
            except BaseException as error:
                interrupt = interrupt or error
                self.scope.cancel(f"interrupted: {type(error).__name__}")
        for ticket in tickets:
            self._pool().take_back(ticket)
        return interrupt

    def _conclude(self, exc: BaseException | None, interrupt: BaseException | None) -> bool:
        with self._lock:
            failures = list(self._failures)
            cut_short = self._cut_short
        if exc is not None and not any(exc is failure for failure in failures):
            if not isinstance(exc, Cancelled) or not self._is_ours(exc):
                failures.insert(0, exc)
            elif exc.scope is not self.scope:
                cut_short = exc
        if interrupt is not None:
            failures.insert(0, interrupt)
        for failure in failures:
            if not isinstance(failure, Exception):
                return _raise_or_pass(failure, exc)
        if failures:
            label = f" {self.name!r}" if self.name else ""
            count = len(failures)
            message = f"task group{label}: {count} failure{'s' if count > 1 else ''}"
            errors = [failure for failure in failures if isinstance(failure, Exception)]
            raise ExceptionGroup(message, errors) from None
        if cut_short is not None:
            return _raise_or_pass(cut_short, exc)
        return exc is not None  # what is left is the group's own cancellation

    def stats(self) -> dict[str, float]:
        """Children `running`, `waiting` and `finished`, and `failures`."""
        with self._lock:
            return {
                "running": self._running,
                "waiting": len(self._waiting),
                "finished": self._finished,
                "failures": len(self._failures),
            }

    def __repr__(self) -> str:
        label = f" {self.name!r}" if self.name else ""
        stats = self.stats()
        limit = "" if self.limit is None else f" of {self.limit}"
        return (
            f"<TaskGroup{label} {self._state}, {stats['running']}{limit} running, "
            f"{stats['waiting']} waiting, {stats['finished']} finished>"
        )


def _raise_or_pass(error: BaseException, exc: BaseException | None) -> bool:
    """Let the block's own exception pass with its traceback; raise any other."""
    if error is exc:
        return False
    raise error
