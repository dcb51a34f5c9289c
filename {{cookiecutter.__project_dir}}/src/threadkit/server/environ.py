"""A request as WSGI wants it, from what gunicorn's parser makes of a head."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from threadkit.arrival import ARRIVED, SOCKET
from threadkit.server.connection import Connection
from threadkit.server.gunicorn_names import base_environ, errors


class Environs:
    """Makes the environment of each request that came in on one kind of listener."""

    def __init__(self, cfg: Any) -> None:
        self._base = {
            **base_environ(cfg),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "SCRIPT_NAME": os.environ.get("SCRIPT_NAME", ""),
        }

    def make(self, request: Any, connection: Connection, body: Any) -> dict[str, Any]:
        """The environment; a new dictionary, which belongs to the application."""
        environ = self._base.copy()
        environ["wsgi.input"] = body
        environ[SOCKET] = connection.sock
        environ[ARRIVED] = connection.arrived
        environ["wsgi.url_scheme"] = request.scheme
        environ["REQUEST_METHOD"] = request.method
        environ["QUERY_STRING"] = request.query
        environ["RAW_URI"] = request.uri
        major, minor = request.version
        environ["SERVER_PROTOCOL"] = f"HTTP/{major}.{minor}"
        for name, value in request.headers:
            key = _key(name)
            # RFC 9110, section 5.3: what comes more than once is one list.
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        client = connection.client
        if isinstance(client, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
        else:
            environ["REMOTE_ADDR"] = client if isinstance(client, str) else client.decode()
        name, port = _server(connection.server, environ.get("HTTP_HOST", ""))
        environ["SERVER_NAME"], environ["SERVER_PORT"] = name, port
        environ["PATH_INFO"] = _path(request.path, environ["SCRIPT_NAME"])
        return environ


@functools.lru_cache(maxsize=512)
def _key(name: str) -> str:
    if name in ("CONTENT-TYPE", "CONTENT-LENGTH"):
        return name.replace("-", "_")
    return "HTTP_" + name.replace("-", "_")


def _server(address: Any, host: str) -> tuple[str, str]:
    if isinstance(address, tuple):
        return address[0], str(address[1])
    # A unix socket has no name that WSGI could show; what the client called it has to do.
    name, _, port = host.partition(":")
    return name, port or "80"


def _path(path: str, prefix: str) -> str:
    if prefix:
        if not path.startswith(prefix):
            msg = f"Request path {path!r} does not start with SCRIPT_NAME {prefix!r}"
            raise errors.ConfigurationProblem(msg)
        path = path[len(prefix) :]
    return unquote_to_bytes(path).decode("latin-1") if "%" in path else path
