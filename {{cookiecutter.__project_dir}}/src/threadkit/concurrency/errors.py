"""The one small tree of errors that this package raises.

Go's counterparts are `context.Canceled` and `context.DeadlineExceeded`; `Saturated` is what a
bounded thing says instead of letting a line grow without end. Whoever answers a request maps them
in one place:

    except Saturated: ...         # 503, try again
    except DeadlineExceeded: ...  # 504
    except Cancelled: ...         # nobody waits for the answer any more

Misuse (a scope entered twice, a load that asks for itself) is none of these but a `RuntimeError`
whose text is the remedy.
"""

from __future__ import annotations


class Cancelled(Exception):
    """The current scope is over: stop, clean up, and let this pass.

    `reason` is the text given to `cancel()`; `scope` is the scope that ended, which is how that
    scope recognises its own cancellation and lets every other one through. Swallowing it in an
    `except Exception` gains nothing: the next checkpoint raises again.
    """

    def __init__(self, reason: str = "cancelled", scope: object | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.scope = scope

    def __reduce__(self) -> tuple[type[Cancelled], tuple[str]]:
        # A scope holds locks and belongs to its process: only the text travels.
        return type(self), (self.reason,)


class DeadlineExceeded(Cancelled, TimeoutError):
    """The current scope's deadline has passed. Also a `TimeoutError`."""


class Saturated(Exception):
    """Something bounded is full, and waiting longer was not allowed. Try again later."""


class WaitedInVain(Saturated):
    """The longest wait that the waiting line of something full allows is over."""


class ExpiredInLine(Saturated, DeadlineExceeded):
    """The scope's deadline passed in the waiting line of something full.

    Both errors at once, because both are true: the caller's `move_on_after` recognises its own
    deadline, and an edge that asks for `Saturated` first answers "try again".
    """


class Closed(Saturated, RuntimeError):
    """An executor that has been shut down was asked to run something more.

    A `RuntimeError`, as `concurrent.futures` promises, and `Saturated`, because during a shutdown
    "try again" (at another worker) is the right answer to a caller.
    """
