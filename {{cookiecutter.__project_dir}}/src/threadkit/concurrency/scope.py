"""The verbs of cancellation: how long may this take, is it still wanted, wait a little.

Go's counterparts: `context.WithTimeout` is `fail_after` or `move_on_after`, `WithoutCancel` is
`shield`, `ctx.Err` is `checkpoint`, `ctx.Deadline` is `remaining`, a `select` on `ctx.Done` and a
timer is `sleep`.

    with move_on_after(0.3) as scope:
        price = prices.get(item_id)
    if scope.cancelled_caught:
        price = None

Outside any scope there is no deadline, and nothing raises: the same code works in a script.
"""

from __future__ import annotations

import math
import time
from time import monotonic

from ._parking import Parker
from .cancel_scope import CancelScope, RaisingScope, current, live_scopes
from .timeline import Span

__all__ = [
    "CancelScope",
    "checkpoint",
    "current_scope",
    "fail_after",
    "live_scopes",
    "move_on_after",
    "remaining",
    "shield",
    "sleep",
]


def fail_after(seconds: float | None, *, name: str = "") -> CancelScope:
    """A scope whose deadline comes out of the block as `DeadlineExceeded`.

    `None` or infinity: no deadline of its own; zero or less: over at the first checkpoint.
    """
    return RaisingScope(seconds, name=name)


def move_on_after(seconds: float | None, *, name: str = "") -> CancelScope:
    """A scope whose deadline ends the block quietly; `scope.cancelled_caught` tells."""
    return CancelScope(seconds, name=name)


def shield(seconds: float | None = None, *, name: str = "") -> CancelScope:
    """A scope that the deadline and cancellation around it do not reach, for a clean-up.

    Give it seconds of its own: without them a clean-up that hangs holds its thread for ever. They
    end the block quietly. What follows the block is under the outer scope again.
    """
    return CancelScope(seconds, shield=True, name=name)


def current_scope() -> CancelScope | None:
    """The innermost scope that this code runs in, or None."""
    return current.get()


def checkpoint() -> None:
    """Raise `Cancelled` (`DeadlineExceeded`) if the current scope is over. For long loops."""
    scope = current.get()
    if scope is not None and (scope._cause is not None or monotonic() >= scope._deadline):
        raise scope.error()


def remaining() -> float | None:
    """Seconds until the current deadline; 0.0 when the scope is over; None without a deadline.

    Fit for any library's `timeout=`: a cancelled scope leaves no time even without a deadline.
    """
    scope = current.get()
    return None if scope is None else scope.remaining()


def sleep(seconds: float) -> None:
    """`time.sleep` that ends with `Cancelled` at once when the current scope does."""
    if not seconds >= 0:
        raise ValueError(f"cannot sleep for {seconds} seconds: pass zero or more")
    scope = current.get()
    if scope is None and seconds != math.inf:
        time.sleep(seconds)
        return
    checkpoint()
    end = monotonic() + seconds
    parker = Parker()
    with Span("sleep", f"{seconds:g} s"):
        while (left := end - monotonic()) > 0:
            park(parker, left)
            checkpoint()


def park(parker: Parker, timeout: float | None = None) -> None:
    """Block until unparked, for `timeout` seconds, or until the current scope is over.

    It raises nothing and says nothing: the caller looks at its own state first (what it waited
    for may have come together with the cancellation), then calls `checkpoint()`, and it takes
    itself out of its line in a `finally`, since a KeyboardInterrupt can come out of here too.
    """
    scope = current.get()
    if scope is None:
        parker.park(timeout)
        return
    if not scope._add_waiter(parker):
        return
    try:
        left = scope._deadline - monotonic()
        if timeout is not None:
            left = min(left, timeout)
        parker.park(None if left == math.inf else left)
    finally:
        scope._remove_waiter(parker)
