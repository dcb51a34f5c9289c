"""The two addresses of the service, bound or refused before any worker exists.

gunicorn tries a port in use five times, a second each, and logs every try. Here a start
that cannot succeed ends at once with one line that names address and remedy.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final

from threadkit import listeners
from threadkit.server import gunicorn_names
from threadkit.settings import split_address

ADMIN_FD: Final = "THREADKIT_ADMIN_FD"
"""By which a master passes its admin listener to the one that USR2 has made of it."""

Address = tuple[str, int] | str | int
"""As gunicorn has it: host and port, the path of a unix socket, or an open descriptor."""


def check_public(address: Address) -> None:
    """End the process where ``address`` cannot be bound.

    The probe lets go again and gunicorn binds; whoever takes the port in the microseconds
    between gets gunicorn's own five lines, which is worth not to reach into its sockets.
    """
    if isinstance(address, int):
        return
    try:
        if isinstance(address, str):
            _check_path(Path(address))
            return
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As gunicorn sets it; a listener on the port is still in the way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SystemExit(_refusal("BIND", _shown(address), error)) from None


def bind_admin(address: str) -> None:
    """Listen on the admin address, or end the process where that cannot be."""
    inherited = os.environ.pop(ADMIN_FD, None)
    if not address:
        return
    if inherited is not None and gunicorn_names.replaces_a_master():
        listeners.set_admin(socket.socket(fileno=int(inherited)))
        return
    try:
        listeners.set_admin(listeners.listen(*split_address(address)))
    except OSError as error:
        raise SystemExit(_refusal("ADMIN_BIND", address, error)) from None


def hand_over_admin(environ: dict[str, str]) -> None:
    """Let the process that is about to replace this one inherit the admin listener."""
    listener = listeners.admin()
    if listener is not None:
        listener.set_inheritable(True)
        environ[ADMIN_FD] = str(listener.fileno())


def _check_path(path: Path) -> None:
    folder = path.parent if str(path.parent) else Path()
    if str(path).startswith("\0"):
        return
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, f"the folder {folder} is not writable")


def _shown(address: Address) -> str:
    if isinstance(address, tuple):
        host, port = address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{address}"


def _refusal(variable: str, shown: str, error: OSError) -> str:
    reason = error.strerror or str(error)
    match error.errno:
        case errno.EADDRINUSE:
            reason = "another process listens there"
            remedy = f"Stop it, or set {variable} to another port."
        case errno.EADDRNOTAVAIL:
            reason = "no interface of this machine has that address"
            remedy = f"Set {variable} to one that has."
        case errno.EACCES | errno.EPERM:
            remedy = f"Set {variable} to a place that this user may use."
        case _:
            remedy = f"Set {variable} to an address that can be bound."
    return f"Cannot listen on {shown}: {reason}. {remedy}"
