"""What the kernel knows of a request's connection: how long it has waited, and who is still there.

A request that has waited in the kernel's backlog or in the server's own line has used up a part
of its time before the service sees it; one whose client has gone is not worth the work. Go's
server tells neither.

    waited(environ)      # seconds since the last byte of the request came in
    has_left(environ)    # True once the client has closed its side

Both read the socket that gunicorn puts into the WSGI environment, and know nothing (0 and False)
where there is none: in a test client, or elsewhere than Linux.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

SOCKET: Final = "gunicorn.socket"
"""Where gunicorn keeps the connection in a request's environment."""

ARRIVED: Final = "threadkit.arrived"
"""Where the worker writes when it saw the request first, in `time.monotonic()` seconds."""

NOISE: Final = 0.02
"""Seconds that prove no wait: the kernel counts in its own ticks, a busy thread in others."""

_LINUX: Final = sys.platform == "linux"
# Offset of tcpi_last_data_recv in struct tcp_info (linux/tcp.h), milliseconds; part of the
# kernel's ABI since 2.6.
_LAST_DATA_RECV: Final = struct.Struct("52xI")
_TCP_INFO: Final = 11
_GONE: Final = getattr(select, "POLLRDHUP", 0)


def waited(environ: Mapping[str, Any]) -> float:
    """Seconds since the last byte of the request arrived; to be asked before its body is read.

    Over TCP the kernel says it to a few milliseconds, its own backlog included; over a unix
    socket there is the worker's stamp, and 0 where no worker wrote one.
    """
    connection = environ.get(SOCKET)
    if _LINUX and connection is not None and connection.family != socket.AF_UNIX:
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA_RECV.size)
            milliseconds: int = _LAST_DATA_RECV.unpack(info)[0]
        except (OSError, struct.error):
            return 0.0
        return milliseconds / 1000
    arrived: float | None = environ.get(ARRIVED)
    return 0.0 if arrived is None else max(0.0, time.monotonic() - arrived)


def has_left(environ: Mapping[str, Any]) -> bool:
    """Whether the client has closed its connection, or its half of it: nobody listens any more.

    Does not wait. Bytes that were not read, of a body or of a next request, do not hide it.
    """
    connection = environ.get(SOCKET)
    return connection is not None and is_closed_by_peer(connection.fileno())


def is_closed_by_peer(descriptor: int) -> bool:
    """The same of an open descriptor; False of one that is closed here."""
    if not _GONE or descriptor < 0:
        return False
    look = select.poll()
    look.register(descriptor, _GONE)
    return any(events & (_GONE | select.POLLHUP | select.POLLERR) for _, events in look.poll(0))
