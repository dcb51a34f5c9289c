"""Which values go along to another thread: all of them for a task, a chosen few otherwise.

Go's counterpart is the value half of `context.Context`. Values are context variables here, and
there are three ways for them to travel:

- a task (`BoundedExecutor.submit`, `TaskGroup.start`) runs in a copy of its starter's context;
- work that belongs to no single request (`background`, a cache's load) starts from a fresh
  context into which only the variables registered here are copied, so that neither the deadline
  nor the web framework's request comes along;
- a pool's threads themselves start in an empty context.

    request_id = register_context_variable(ContextVar("request_id", default=""))
"""

from __future__ import annotations

import os
import threading
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# Guards the replacement of _registered, which is never changed in place: readers take no lock.
_lock = threading.Lock()
_registered: tuple[ContextVar[Any], ...] = ()


def register_context_variable(variable: ContextVar[T]) -> ContextVar[T]:
    """Let this variable go along with background work and loads; returns it.

    For what identifies the cause of the work (request id, log context, trace), not for what the
    request owns. Registering it twice is the same as once.
    """
    global _registered
    with _lock:
        if variable not in _registered:
            _registered = (*_registered, variable)
    return variable


def registered_context_variables() -> tuple[ContextVar[Any], ...]:
    """What has been registered so far, in that order."""
    return _registered


def fresh_context() -> Context:
    """A new context that holds only the registered variables which are set here and now."""
    values = []
    for variable in _registered:
        value = variable.get(_UNSET)
        if value is not _UNSET:
            values.append((variable, value))
    context = Context()
    if values:
        context.run(_set_all, values)
    return context


_UNSET = object()


def _set_all(values: list[tuple[ContextVar[Any], Any]]) -> None:
    for variable, value in values:
        variable.set(value)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
