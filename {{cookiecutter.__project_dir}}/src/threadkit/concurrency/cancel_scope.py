"""The scope: a deadline and a cancellation that reach everything started under them.

Go's counterpart is `context.Context` with its deadline, `Done` and `Err`. Here nobody passes it
along: the current scope is a context variable, and every wait in this package looks at it.

    with CancelScope(timeout=0.5) as scope:   # another thread may call scope.cancel("why")
        work_that_waits()
    if scope.cancelled_caught:
        ...                                   # it was cut short here

Scopes form a tree across threads: tasks carry their starter's scope along, and cancelling one
reaches all below it. `scope.py` has the verbs for everyday use.
"""

from __future__ import annotations

import math
import os
import threading
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from ._callback import Callback
from .errors import Cancelled, DeadlineExceeded
from .timer import TimerHandle, timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._parking import Parker

_State = Literal["new", "active", "left"]


class Cause(NamedTuple):
    """Why a scope is over, and which scope ended: itself or one above it."""

    origin: CancelScope
    reason: str
    kind: Literal["cancelled", "expired", "left"]


current: ContextVar[CancelScope | None] = ContextVar("threadkit_scope", default=None)

# A scope that was left is over, so that a task which still runs under it in another thread stops at
# its next checkpoint instead of outliving the request that it worked for.
_LEFT = (
    "the scope's block was left while this still ran under it: wait for it with a TaskGroup, or "
    "use background.submit() for work that shall outlive the block"
)

# The scopes at the root of each tree, for lists. A plain dict: single operations are atomic, and
# a list of live scopes needs no more.
_roots: dict[CancelScope, None] = {}


class CancelScope:
    """A region of code that ends at a deadline or when someone calls `cancel`.

    `timeout` counts in seconds from the construction, `deadline` is absolute on
    `time.monotonic()`; the earlier holds, `None` and infinity mean none, zero or less means
    "already over", and NaN is a `ValueError`. A child may only shorten its parent's deadline.
    With `shield=True` neither the deadline nor the cancellation of the scopes around it comes in:
    for a clean-up, always together with a timeout of its own.

    Cancellation is level-triggered: from then on every checkpoint and every wait below raises
    `Cancelled` (`DeadlineExceeded` when it was the deadline), in every thread. Leaving the block
    swallows the scope's *own* cancellation and sets `cancelled_caught`; another scope's passes
    through. A block that finishes late but without looking finishes normally. What still runs
    under a scope when its block is left is cancelled: work that shall outlive it belongs to
    `background`.

    Thread-safe: any thread may cancel and ask; only the thread that entered a scope leaves it.
    One scope is entered once. It cannot interrupt code that never looks: a loop of computations
    has to call `checkpoint()`, a library has to wait in short ticks or close its socket in
    `on_cancel`. In a forked child the forking thread's scopes live on, with their deadlines and
    without their callbacks; the other threads' are gone.
    """

    __slots__ = (
        "__weakref__",
        "_began",
        "_callbacks",
        "_cause",
        "_children",
        "_deadline",
        "_lock",
        "_owner",
        "_parent",
        "_shield",
        "_state",
        "_thread",
        "_timer",
        "_token",
        "_waiters",
        "cancelled_caught",
        "name",
    )

    _swallows: ClassVar[bool] = True

    def __init__(
        self,
        timeout: float | None = None,
        *,
        deadline: float | None = None,
        shield: bool = False,
        name: str = "",
    ) -> None:
        self.name = name
        self.cancelled_caught = False
        self._began = monotonic()
        end = math.inf if deadline is None else deadline
        if timeout is not None:
            end = min(end, self._began + timeout)
        if math.isnan(end) or (timeout is not None and math.isnan(timeout)):
            raise ValueError(
                f"a deadline cannot be NaN (timeout={timeout}, deadline={deadline}): "
                "pass seconds, or None for no deadline"
            )
        self._shield = shield
        # _lock guards _state, _cause, _children, _waiters, _callbacks, _timer. _cause is written
        # once, under the lock, and may be read without it. Never held together with another
        # scope's lock, nor while anything but this class runs.
        self._lock = threading.Lock()
        self._state: _State = "new"
        self._cause: Cause | None = None
        self._children: dict[CancelScope, None] | None = None
        self._waiters: set[Parker] | None = None
        self._callbacks: dict[Callback, None] | None = None
        self._timer: TimerHandle | None = None
        # Written when entered, by the entering thread alone.
        self._deadline = end
        self._owner: CancelScope = self
        self._parent: CancelScope | None = None
        self._thread = 0

    # Asking

    @property
    def deadline(self) -> float | None:
        """The effective deadline, the earliest of this scope's and those above; or None."""
        return None if self._deadline == math.inf else self._deadline

    @property
    def parent(self) -> CancelScope | None:
        """The scope around this one that it obeys; None at a root and under a shield."""
        return self._parent

    @property
    def age(self) -> float:
        """Seconds since the construction."""
        return monotonic() - self._began

    @property
    def over(self) -> bool:
        """True once every checkpoint in this scope raises."""
        return self._cause is not None or monotonic() >= self._deadline

    @property
    def reason(self) -> str | None:
        """Why the scope is over (the text given to `cancel`, or the deadline's); else None."""
        cause = self._cause
        if cause is None and monotonic() >= self._deadline:
            cause = self._expiry()
        return None if cause is None else cause.reason

    @property
    def thread_id(self) -> int:
        """`threading.get_ident()` of the thread that entered it; 0 before that."""
        return self._thread

    @property
    def children(self) -> list[CancelScope]:
        """The scopes directly below that have not been left, in any thread."""
        with self._lock:
            return list(self._children or ())

    def remaining(self) -> float | None:
        """Seconds to the deadline, 0.0 once the scope is over, None without a deadline."""
        if self._cause is not None:
            return 0.0
        if self._deadline == math.inf:
            return None
        return max(0.0, self._deadline - monotonic())

    def checkpoint(self) -> None:
        """Raise `Cancelled` if the scope is over."""
        if self._cause is not None or monotonic() >= self._deadline:
            raise self.error()

    def error(self) -> Cancelled:
        """The error that a checkpoint raises in this scope, made afresh."""
        cause = self._cause or self._expiry()
        kind = DeadlineExceeded if cause.kind == "expired" else Cancelled
        return kind(cause.reason, cause.origin)

    # Cancelling

    def cancel(
        self,
        reason: str = "cancelled",
        *,
        run: Callable[[Callable[[], None]], object] | None = None,
    ) -> bool:
        """End the scope and all below it, waking whoever waits there. From any thread.

        True if this call ended it; False if it was over already. May be called before the scope
        is entered. Functions registered with `on_cancel` run in the calling thread; one that must
        not wait for them hands each to `run`, for example an executor's `submit`.
        """
        return self._deliver(Cause(self, reason, "cancelled"), run)

    def on_cancel(self, fn: Callable[[], object]) -> Callable[[], bool]:
        """Call `fn()` once when the scope ends; returns a function that unregisters it.

        It runs in the thread that cancels, for a deadline on the timer's thread, and at once in
        the calling thread if the scope is over already; so it must be quick and may not block.
        What it raises is logged. Leaving the block forgets it. `unregister()` waits for a call
        that is under way, see `Callback.unregister`.
        """
        callback = Callback(fn, self._forget)
        if self._cause is None and monotonic() >= self._deadline:
            self._expire()
        with self._lock:
            waiting = self._cause is None
            if waiting:
                if self._callbacks is None:
                    self._callbacks = {}
                self._callbacks[callback] = None
                if self._timer is None and self._deadline != math.inf:
                    self._timer = timer.call_at(self._deadline, self._expire)
        if not waiting:
            callback.run()
        return callback.unregister

    def _forget(self, callback: Callback) -> None:
        with self._lock:
            if self._callbacks is not None:
                self._callbacks.pop(callback, None)
                if not self._callbacks:
                    self._stop_timer()

    def _stop_timer(self) -> None:
        # Under _lock. The timer's own lock is the only one ever taken below a scope's.
        if self._timer is not None:
            timer.cancel(self._timer)
            self._timer = None

    def _expire(self) -> None:
        self._deliver(self._expiry())

    def _expiry(self) -> Cause:
        owner = self._owner
        label = f" {owner.name!r}" if owner.name else ""
        given = owner._deadline - owner._began
        return Cause(
            owner, f"deadline exceeded: scope{label} had {max(0.0, given):.3g} s", "expired"
        )

    def _deliver(
        self, cause: Cause, run: Callable[[Callable[[], None]], object] | None = None
    ) -> bool:
        """Mark the tree below, wake its waiters, then run its callbacks, in this order."""
        callbacks: list[Callback] = []
        was_first = False
        pending = [self]
        while pending:
            scope = pending.pop()
            with scope._lock:
                if scope._cause is not None:
                    continue
                # A deadline that has passed stays the reason, whoever cancels afterwards.
                expired = cause.kind != "left" and monotonic() >= scope._deadline
                scope._cause = scope._expiry() if expired else cause
                was_first = was_first or scope is self
                waiters, scope._waiters = scope._waiters, None
                callbacks.extend(scope._callbacks or ())
                scope._callbacks = None
                pending.extend(scope._children or ())
                scope._stop_timer()
            for parker in waiters or ():
                parker.unpark()
        for callback in callbacks:
            if run is None:
                callback.run()
            else:
                run(callback.run)
        return was_first

    # Waiting, for the other files of this package

    def _add_waiter(self, parker: Parker) -> bool:
        """Wake `parker` when the scope is cancelled. False: it is over, do not wait."""
        with self._lock:
            if self._cause is not None:
                return False
            if self._waiters is None:
                self._waiters = set()
            self._waiters.add(parker)
            return True

    def _remove_waiter(self, parker: Parker) -> None:
        if self._cause is not None:
            return  # cancelling took the whole set; a thousand woken threads need no lock
        with self._lock:
            if self._waiters is not None:
                self._waiters.discard(parker)

    # Entering and leaving

    def __enter__(self) -> CancelScope:
        with self._lock:
            if self._state != "new":
                raise RuntimeError(
                    f"{self!r} was entered before: a scope holds one deadline for one block. "
                    "Make a new one for each `with`"
                )
            self._state = "active"
        self._thread = threading.get_ident()
        parent = current.get()
        if parent is None or self._shield:
            _roots[self] = None
        else:
            self._attach(parent)
        self._token = current.set(self)
        return self

    def _attach(self, parent: CancelScope) -> None:
        self._parent = parent
        if parent._deadline <= self._deadline:
            self._owner, self._deadline = parent._owner, parent._deadline
            if self._timer is not None:  # on_cancel came before the block was entered
                with self._lock:
                    self._stop_timer()
                    if self._cause is None and self._callbacks:
                        self._timer = timer.call_at(self._deadline, self._expire)
        # Either the parent's cancellation sees this child in the list, or this sees its cause.
        with parent._lock:
            cause = parent._cause
            if parent._children is None:
                parent._children = {}
            parent._children[self] = None
        if cause is not None:
            self._deliver(cause)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._state != "active":
            raise RuntimeError(f"{self!r} is not open: enter it with `with` and leave it once")
        own = isinstance(exc, Cancelled) and exc.scope is self
        at_home = threading.get_ident() == self._thread
        if at_home:
            self._step_out()
        parent = self._parent
        if parent is None:
            _roots.pop(self, None)
        else:
            with parent._lock:
                if parent._children is not None:
                    parent._children.pop(self, None)
        with self._lock:
            self._state = "left"
            if self._callbacks:
                self._callbacks = None  # forgotten, not called: the block is over
                self._stop_timer()
            # What the block raised was its deadline if nobody recorded another cause.
            cause = self._expiry() if own else Cause(self, _LEFT, "left")
            stragglers = self._cause is None and (self._children or self._waiters)
            if self._cause is None and not stragglers:
                self._cause = cause
        if stragglers:
            self._deliver(cause)
        if not at_home:
            raise RuntimeError(
                f"{self!r} was left in another thread than it was entered in: give tasks a scope "
                "of their own, or start them with a TaskGroup, which does"
            )
        if own and self._swallows:
            self.cancelled_caught = True
            return True
        return False

    def _step_out(self) -> None:
        """Make the scope around this one the thread's current one."""
        if current.get() is self:
            try:
                current.reset(self._token)
            except ValueError:  # entered in another context of the same thread
                current.set(self._parent)
            return
        # A scope around this one was left first, or one inside is still open (a generator). The
        # thread must come out under a scope that is open: a dead one would cancel whatever it
        # does next. If it has moved on to other scopes altogether, they are none of ours.
        inner = current.get()
        while inner is not None and inner is not self:
            inner = inner._parent
        if inner is not None:
            outer = self._parent
            while outer is not None and outer._state == "left":
                outer = outer._parent
            current.set(outer)

    def __repr__(self) -> str:
        label = f" {self.name!r}" if self.name else ""
        cause = self._cause
        if self._state == "left":
            state = "left, cancelled_caught" if self.cancelled_caught else "left"
        elif cause is not None:
            state = f"{cause.kind}: {cause.reason}"
        elif self._deadline == math.inf:
            state = f"{self._state}, no deadline"
        else:
            state = f"{self._state}, {self._deadline - monotonic():.3f} s left"
        shield = ", shielded" if self._shield else ""
        below = len(self._children or ())
        return f"<CancelScope{label} {state}{shield}, {below} below>"


class RaisingScope(CancelScope):
    """A scope that lets its own cancellation through as well: what `fail_after` returns."""

    __slots__ = ()
    _swallows = False


def live_scopes() -> list[CancelScope]:
    """Every scope that is open now, parents before their children. For consoles; a snapshot."""
    found = list(_roots)
    for scope in found:  # grows while it is walked
        found.extend(scope.children)
    return found


def _after_fork_in_child() -> None:
    # Only the forking thread's own chain of scopes is left. Another thread may have held any of
    # their locks, and their waiters, callbacks and other children belong to the parent.
    _roots.clear()
    scope = current.get()
    below: CancelScope | None = None
    while scope is not None:
        scope._lock = threading.Lock()
        scope._waiters = scope._callbacks = scope._timer = None
        scope._children = None if below is None else {below: None}
        if scope._parent is None:
            _roots[scope] = None
        below, scope = scope, scope._parent


os.register_at_fork(after_in_child=_after_fork_in_child)
