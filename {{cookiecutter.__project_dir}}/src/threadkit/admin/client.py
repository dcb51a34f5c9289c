"""Whether the client of a long answer is still there."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from werkzeug.wrappers import Request

from threadkit.admin.exchange import CONNECTION


def left_within(request: Request) -> Callable[[float], bool]:
    """A function that waits for some seconds and is true as soon as the client has left.

    Where there is no socket (a test client) it only waits. A server that closes ends its
    answers the same way: it shuts their sockets down.
    """
    connection: Any = request.environ.get(CONNECTION)
    if not isinstance(connection, socket.socket):
        return threading.Event().wait

    def left(seconds: float) -> bool:
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(connection, select.POLLIN | select.POLLRDHUP)
        while True:
            rest = until - time.monotonic()
            events = poll.poll(max(0.0, rest) * 1000)
            if any(
                what & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, what in events
            ):
                return True
            if events:
                try:
                    if not connection.recv(4096):  # more than it may send: not looked at
                        return True
                except OSError:
                    return True
            if rest <= 0:
                return False

    return left
