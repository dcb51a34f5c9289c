"""The places around a BoundedExecutor: a seat, a place in line, a ticket for help, a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._future import Task
from ._parking import Parker


class HelpTicket:
    """A request for a worker's help with work that its owner could also do itself.

    Task groups and caches lend themselves threads this way. Tickets take no place in the queue,
    and a ticket that nobody redeems harms nobody: its owner takes it back.
    """

    __slots__ = ("_redeem", "name", "queued_at")

    def __init__(self, redeem: Callable[[HelpTicket], object], name: str) -> None:
        self._redeem = redeem  # must not raise
        self.name = name
        self.queued_at = 0.0

    def run(self) -> None:
        """Called by the worker."""
        self._redeem(self)


@dataclass(frozen=True)
class ShutdownReport:
    """What a shutdown left, by name: `cancelled` never ran, `left` had not ended in time."""

    cancelled: tuple[str, ...]
    left: tuple[str, ...]


class Submitter:
    """A thread that waits for a free place with a task in its hands."""

    __slots__ = ("closed", "parker", "task")

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        self.parker = Parker()
        self.closed = False


class Seat:
    """A worker that sits by for the next item; `item` is guarded by the executor's lock."""

    __slots__ = ("item", "parker")

    def __init__(self) -> None:
        self.parker = Parker()
        self.item: Task[Any] | HelpTicket | None = None
