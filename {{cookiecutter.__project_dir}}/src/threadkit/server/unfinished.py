"""The memory of requests that are not complete yet: one sum for all of a worker's connections.

Each connection has limits of its own, but a thousand of them with a megabyte each would be a
gigabyte. Over the limit somebody has to go: among those that hold more than their share, those
from which nothing has come for the longest. A client that sends as fast as it can stays.

    unfinished.count(connection)          # after it has sent something
    for connection in unfinished.surplus(waiting): ...      # refuse these
"""

from __future__ import annotations

from collections.abc import Iterable

from threadkit.server.connection import Connection


class Unfinished:
    """Counts bytes. ``count`` and ``forget`` belong under the poller's lock, as states do."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.bytes = 0

    def count(self, connection: Connection) -> None:
        """What it holds now, in place of what it held before."""
        held = connection.inflow.held
        self.bytes += held - connection.held
        connection.held = held

    def forget(self, connection: Connection) -> None:
        """Its request is complete, or is none any more."""
        self.bytes -= connection.held
        connection.held = 0

    @property
    def too_many(self) -> bool:
        """Whether somebody has to go."""
        return self.bytes > self._most

    def surplus(self, waiting: Iterable[Connection]) -> list[Connection]:
        """Who has to go, until what is left is within the limit."""
        holders = [c for c in waiting if c.held]
        share = self._most // max(1, len(holders))
        gone, over = [], self.bytes - self._most
        for connection in sorted(holders, key=lambda c: c.last):
            if over <= 0:
                break
            if connection.held > share:
                over -= connection.held
                gone.append(connection)
        return gone
