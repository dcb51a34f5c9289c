"""The listening socket that the master binds once and every worker inherits.

gunicorn hands workers its public sockets itself; the one of the admin address goes from
the room that binds it (server, in the master) to the room that serves it (admin, in each
worker) through here. It is bound once and without SO_REUSEPORT, so that a port in use is
an error of the start and not a second service that answers every other request.
"""

from __future__ import annotations

import socket
from typing import Final

_BACKLOG: Final = 128

_admin: socket.socket | None = None


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; ``OSError`` where that cannot be. Non-blocking, since it is shared.

    A worker that loses the race for a connection must get EAGAIN instead of waiting.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = infos[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Only lets a restart take over from connections in TIME_WAIT; two listeners on
        # one address are refused with or without it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def admin() -> socket.socket | None:
    """The admin listener of this service; None where nobody has bound one."""
    return _admin


def set_admin(listener: socket.socket | None) -> None:
    """Replace the admin listener, closing the one before; workers keep their own copy."""
    global _admin
    if _admin is not None and _admin is not listener:
        _admin.close()
    _admin = listener
