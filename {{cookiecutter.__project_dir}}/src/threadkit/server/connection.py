"""A client's connection and whose it is at the moment.

It belongs to exactly one of three: the poller, while it waits for a request; the line, while
its request waits for a thread; or the thread that answers it. Only its owner touches it.
"""

from __future__ import annotations

import math
import select
import socket
import time
from enum import Enum
from typing import Any

from threadkit.server.wire import Inflow, Limits, Stage


class State(Enum):
    """Who owns a connection and what it waits for."""

    WAITING = "for a request, or for the rest of one"
    BUSY = "its request stands in line or is being answered"
    LEAVING = "for the client to close its side"
    CLOSED = "it is gone"


class Connection:
    """One client; not thread-safe, its owner alone uses it. Times are ``time.monotonic()``."""

    __slots__ = (
        *("_look", "answered", "arrived", "check_at", "client", "deadline", "drained"),
        *(
            "exempt",
            "fd",
            "held",
            "inflow",
            "known",
            "last",
            "requests",
            "server",
            "sock",
            "stage",
            "state",
        ),
    )

    def __init__(self, sock: socket.socket, client: Any, server: Any, limits: Limits) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.client = client
        self.server = server
        self.inflow = Inflow(limits)
        self.state = State.WAITING
        self.stage = Stage.IDLE
        self.requests = 0
        self.last = self.arrived = time.monotonic()
        """When it last said something; when its request was complete."""
        self.deadline = math.inf
        self.check_at = math.inf
        self.drained = 0
        self.held = 0
        """Bytes of an unfinished request, as they were counted; under the poller's lock."""
        self.known = False
        """The poller's epoll has seen it."""
        self.exempt = False
        self.answered = False
        """The last byte of the answer is on its way, though its thread is not done yet."""
        self._look: select.poll | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.fd} of {self.client}: {self.state.name}, {self.stage.name}>"

    def becomes_readable(self, milliseconds: int) -> bool:
        """Wait that long for something to read."""
        if self._look is None:
            self._look = select.poll()
            self._look.register(self.fd, select.POLLIN)
        return bool(self._look.poll(milliseconds))

    def becomes_writable(self, milliseconds: float) -> bool:
        """Wait that long for room to write."""
        look = select.poll()
        look.register(self.fd, select.POLLOUT)
        return bool(look.poll(milliseconds))
