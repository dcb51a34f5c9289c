"""A `concurrent.futures.Future` whose waiters look at their own scope."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, TypeVar

from ._parking import Parker
from .cancel_scope import current
from .scope import checkpoint, park
from .timeline import Span
from .timeline import current as timeline

T = TypeVar("T")


class ScopedFuture(Future[T]):
    """`result` and `exception` wait no longer than the waiter's scope lasts.

    The waiter then gets its own `Cancelled` or `DeadlineExceeded`; the task is not touched. A
    result that is there is returned even when the scope is over. Otherwise a plain Future, which
    `concurrent.futures.wait` and `as_completed` accept (those two do not look at scopes).
    """

    def result(self, timeout: float | None = None) -> T:
        """The task's result, or its exception raised; `TimeoutError` after `timeout` seconds."""
        if current.get() is not None and not self.done():
            self._await(timeout)
            timeout = 0
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's exception or None; `TimeoutError` after `timeout` seconds."""
        if current.get() is not None and not self.done():
            self._await(timeout)
            timeout = 0
        return super().exception(timeout)

    def _await(self, timeout: float | None) -> None:
        parker = Parker()
        self.add_done_callback(lambda _: parker.unpark())
        end = None if timeout is None else monotonic() + timeout
        while not self.done():
            checkpoint()
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                return
            park(parker, left)


class Task(ScopedFuture[T]):
    """A call that waits to be run, together with the future of its result.

    It runs in a copy of the context in which it was made, so scope, request id and trace come
    along, and it never starts once that scope is over.
    """

    def __init__(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self._fn = fn
        self.context: Context | None = copy_context()
        self.call: tuple[Callable[..., T], tuple[Any, ...], dict[str, Any]] | None
        self.call = (fn, args, kwargs)
        self.queued_at: float = 0.0

    @property
    def name(self) -> str:
        """The function's name, for reports."""
        return describe(self._fn)

    def run(self) -> None:
        """Run it here and now, unless it was cancelled; everything it raises is kept."""
        call, context = self.call, self.context
        self.call = self.context = None  # the arguments live no longer than the call
        if call is None or context is None or not self.set_running_or_notify_cancel():
            return
        try:
            fn, args, kwargs = call
            result = context.run(_call, fn, args, kwargs)
        except BaseException as error:
            self.set_exception(error)
            # The error's traceback holds this frame, so this frame must not hold the future:
            # a cycle would keep both, and all that the frames hold, until the next collection.
            self = None  # type: ignore[assignment]  # noqa: PLW0642
        else:
            self.set_result(result)


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    checkpoint()
    if timeline.get() is None:
        return fn(*args, **kwargs)
    with Span("task", describe(fn)):
        return fn(*args, **kwargs)


def describe(fn: Callable[..., object]) -> str:
    """A function's name for people: reports, logs and `repr`s."""
    inner = getattr(fn, "func", fn)  # a functools.partial's own function
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    module = getattr(inner, "__module__", None)
    return f"{module}.{name}" if module else str(name)
