"""One call for all who ask for the same thing at the same time.

Go's counterpart is `golang.org/x/sync/singleflight`.

    flights: SingleFlight[int, Report] = SingleFlight("reports")

    def report(year: int) -> Report:
        return flights.do(year, lambda: build_report(year))

A hundred threads that ask together make one call. Each of them may leave at its own deadline.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar, cast

from ._parking import Parker
from ._places import HelpTicket
from .cancel_scope import CancelScope, current
from .errors import Cancelled
from .propagation import fresh_context
from .registry import register
from .scope import checkpoint, park
from .shared_executor import shared_executor
from .timeline import Span

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

Commit = Callable[[T], object]
"""Stores a load's value, under the SingleFlight's lock; returns what must outlive that lock."""

_numbers = itertools.count(1)

# The loads that this code is part of, outermost first; it goes along into a load's own tasks.
_loading: ContextVar[tuple[tuple[int, Hashable], ...]] = ContextVar("threadkit_loading", default=())


class Flight(Generic[T]):
    """One load under way and those who wait for it.

    `parkers`, `held` and `done` are guarded by the SingleFlight's lock; `value`, `error` and
    `traceback` are written before `done` and read after it.
    """

    __slots__ = (
        "done", "error", "held", "key", "parkers", "scope", "stored", "traceback", "value",
    )  # fmt: skip

    def __init__(self, key: Hashable, scope: CancelScope) -> None:
        self.key = key
        self.scope = scope
        self.parkers: set[Parker] = set()
        self.held = False  # wanted by the cache itself, whoever else waits
        self.done = False
        self.value: T
        self.error: BaseException | None = None
        self.traceback: TracebackType | None = None

    def outcome(self) -> T:
        """The value, or the error raised: the same object for all who waited."""
        if self.error is not None:
            # Without the reset every waiter's frames would pile up in the one traceback.
            raise self.error.with_traceback(self.traceback)
        return self.value


class SingleFlight(Generic[K, T]):
    """`do(key, load)`: however many threads ask for a key at once, `load` runs once.

    All who waited get the same value or the same exception, once; nothing is remembered, so the
    next call loads afresh. A caller waits no longer than its own scope lasts; the load goes on
    for the others, in a scope of its own that ends with its last waiter.

    Which thread runs it: outside any scope the first caller's own. Within one, a worker of the
    shared executor if one is free, so that the first caller can leave as well; with none free
    the first caller runs it, and then stays until the load ends or looks at its scope. Either way
    the load runs in a fresh context with only the registered variables: it belongs to no request.

    A load that asks for its own key, also from a task group's thread, is a `RuntimeError`. Loads
    that ask for each other's keys wait for each other until their callers' deadlines.

    Thread-safe. It caches nothing: see `Cache`. A forked child starts with no flights.
    """

    def __init__(self, name: str | None = None, *, time_limit: float | None = None) -> None:
        self.name = name or f"singleflight-{next(_numbers)}"
        self.time_limit = time_limit
        self._start_afresh()
        register("singleflight", self)

    def _start_afresh(self) -> None:
        # _lock guards every field below it, and a Cache's decision to store. Keys are hashed and
        # compared under it (they are a dict's keys); no load runs under it.
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight[T]] = {}
        self._loads = self._joined = self._failed = self._abandoned = 0

    def _after_fork(self) -> None:
        self._start_afresh()

    def do(self, key: K, load: Callable[[], T]) -> T:
        """The result of one call of `load` that is shared by all who ask for `key` meanwhile."""
        return self._do(key, load, None)

    def forget(self, key: K) -> bool:
        """Let the next caller load afresh, though a load is under way; those who wait keep it."""
        with self._lock:
            return self._flights.pop(key, None) is not None

    def _do(self, key: Hashable, load: Callable[[], T], commit: Commit[T] | None) -> T:
        checkpoint()
        self._refuse_reentrance(key)
        parker = Parker()
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._take_off(key)
            else:
                self._joined += 1
            flight.parkers.add(parker)
        with Span("load", self.name):
            if leads:
                self._launch(flight, load, commit, parker)
            return self._await(flight, parker)

    def _refuse_reentrance(self, key: Hashable) -> None:
        if (id(self), key) in _loading.get():
            raise RuntimeError(
                f"the load of {key!r} in {self.name!r} asks for {key!r} itself and would wait for "
                "itself: call the function that does the work, not the cached one"
            )

    def _take_off(self, key: Hashable) -> Flight[T]:
        # Under _lock.
        scope = CancelScope(self.time_limit, shield=True, name=f"load of {self.name}")
        flight: Flight[T] = Flight(key, scope)
        self._flights[key] = flight
        self._loads += 1
        return flight

    # Waiting

    def _await(self, flight: Flight[T], parker: Parker) -> T:
        try:
            while not flight.done:
                checkpoint()
                park(parker)
        finally:
            if not flight.done:
                self._leave(flight, parker)
        if isinstance(flight.error, Cancelled) and flight.error.scope is flight.scope:
            checkpoint()  # it ended because this caller's scope did: say so, not how
        return flight.outcome()

    def _leave(self, flight: Flight[T], parker: Parker) -> None:
        """One waiter less; without any the load is nobody's, and is cancelled."""
        with self._lock:
            flight.parkers.discard(parker)
            abandoned = not flight.parkers and not flight.held and not flight.done
            if abandoned:
                self._abandoned += 1
                # Whoever comes now starts a flight of its own instead of joining a dying one.
                self._detach(flight)
        if abandoned:
            flight.scope.cancel("everyone who waited for this load has left")

    def _detach(self, flight: Flight[T]) -> bool:
        # Under _lock.
        if self._flights.get(flight.key) is not flight:
            return False
        del self._flights[flight.key]
        return True

    # Loading

    def _launch(
        self,
        flight: Flight[T],
        load: Callable[[], T],
        commit: Commit[T] | None,
        parker: Parker,
    ) -> None:
        fly = self._prepare(flight, load, commit)
        scope = current.get()
        if scope is not None and self._borrow_worker(fly):
            return
        if scope is None:
            interrupt = fly()
        else:
            # Here the leader cannot park, so its leaving is noticed from outside.
            unregister = scope.on_cancel(partial(self._leave, flight, parker))
            try:
                interrupt = fly()
            finally:
                unregister()
        if interrupt is not None:
            raise interrupt

    def _borrow_worker(self, fly: Callable[[], object]) -> bool:
        ticket = HelpTicket(lambda _ticket: fly(), f"load of {self.name}")
        try:
            return shared_executor().lend_now(ticket)
        except RuntimeError:
            return False  # no thread can be started now

    def _launch_in_background(
        self,
        key: Hashable,
        load: Callable[[], T],
        commit: Commit[T],
        submit: Callable[[Callable[[], None]], object],
    ) -> None:
        """Load without a caller who waits, unless a load is under way. Raises what submit does."""
        with self._lock:
            if key in self._flights:
                return
            flight = self._take_off(key)
            flight.held = True
        fly = self._prepare(flight, load, commit)

        def refresh() -> None:
            scope = current.get()
            if scope is not None:  # the background's time limit and its drain end the load
                scope.on_cancel(lambda: flight.scope.cancel(scope.reason or "cancelled"))
            fly()

        refresh.__qualname__ = f"refresh of {self.name}"
        try:
            submit(refresh)
        except Exception as error:
            self._land(flight, None, error, None)
            raise

    def _prepare(
        self, flight: Flight[T], load: Callable[[], T], commit: Commit[T] | None
    ) -> Callable[[], BaseException | None]:
        context = fresh_context()
        context.run(_loading.set, (*_loading.get(), (id(self), flight.key)))
        return lambda: context.run(self._fly, flight, load, commit)

    def _fly(
        self, flight: Flight[T], load: Callable[[], T], commit: Commit[T] | None
    ) -> BaseException | None:
        """Run the load and let all who wait know; returns a KeyboardInterrupt and its like."""
        error: BaseException | None = None
        interrupt: BaseException | None = None
        value: T | None = None
        try:
            with flight.scope:
                value = load()
            if flight.scope.cancelled_caught:
                error = flight.scope.error()
        except Exception as failure:
            error = failure
        except BaseException as failure:
            interrupt = failure
            error = RuntimeError(
                f"a load of {self.name!r} was ended by {type(failure).__name__}: ask again"
            )
        self._land(flight, value, error, commit)
        return interrupt

    def _land(
        self,
        flight: Flight[T],
        value: T | None,
        error: BaseException | None,
        commit: Commit[T] | None,
    ) -> None:
        flight.value = cast(T, value)
        flight.error = error
        flight.traceback = None if error is None else error.__traceback__
        with self._lock:
            # Gone from the table before anyone wakes: a failed load is nobody's next answer. And
            # only a flight that is still in the table may store what it brought; `forget` and
            # an invalidation took it out.
            still_wanted = self._detach(flight)
            self._failed += error is not None
            _retired = None  # what made room lives until the lock is free: it may have a __del__
            if still_wanted and error is None and commit is not None:
                _retired = commit(flight.value)
            flight.done = True
            parkers, flight.parkers = flight.parkers, set()
        for parker in parkers:
            parker.unpark()

    def stats(self) -> dict[str, float]:
        """`in_flight` and `waiting` now; `loads`, `joined`, `failed` and `abandoned` in all."""
        with self._lock:
            return {
                "in_flight": len(self._flights),
                "waiting": sum(len(flight.parkers) for flight in self._flights.values()),
                "loads": self._loads,
                "joined": self._joined,
                "failed": self._failed,
                "abandoned": self._abandoned,
            }

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<SingleFlight {self.name!r} {stats['in_flight']} in flight, "
            f"{stats['waiting']} waiting>"
        )
