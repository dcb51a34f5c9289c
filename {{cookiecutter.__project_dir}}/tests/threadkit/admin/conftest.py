"""A runtime with settings, and an admin server on a port of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from threadkit import listeners
from threadkit.admin import AdminServer
from threadkit.runtime import Runtime
from threadkit.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

MakeRuntime = Callable[..., Runtime]
Serve = Callable[..., tuple[AdminServer, tuple[str, int]]]


@pytest.fixture
def make_runtime() -> MakeRuntime:
    """A runtime by its settings."""

    def make(**settings: Any) -> Runtime:
        return Runtime(Settings(database_url="sqlite:///x.db", **settings))

    return make


@pytest.fixture
def serve() -> Iterator[Serve]:
    """An application behind an admin server: the server and its address."""
    with ExitStack() as stack:

        def serve(app: WSGIApplication, **options: Any) -> tuple[AdminServer, tuple[str, int]]:
            listener: socket.socket = options.pop("listener", None) or listeners.listen(
                "127.0.0.1", 0
            )
            stack.callback(listener.close)
            server = AdminServer(app, listener=lambda: listener, **options)
            server.start()
            stack.callback(server.close)
            return server, listener.getsockname()[:2]

        yield serve
