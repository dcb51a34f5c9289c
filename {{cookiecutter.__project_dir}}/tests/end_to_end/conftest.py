"""Services under a real gunicorn, stopped and checked after each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..servers.processes import PROJECT
from ..servers.service import Service

# These tests drive the example over HTTP; without it there is nothing to ask, and they rest.
if not any((PROJECT / "src").glob("*/handlers/items.py")):
    collect_ignore_glob = ["test_*.py"]

NewDatabase = Callable[..., str]
Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path, new_database: NewDatabase) -> Iterator[Start]:
    """Start a service by its settings, on a fresh SQLite database unless they name another.

    What has not ended by itself ends with the test, with status 0 and nothing left behind.
    """
    services: list[Service] = []
    numbers = itertools.count()

    def start(*arguments: str, ready: bool = True, **environ: str) -> Service:
        environ.setdefault("DATABASE_URL", new_database("sqlite"))
        service = Service(tmp_path / f"service-{next(numbers)}", environ, arguments)
        services.append(service)
        return service.wait_until_ready() if ready else service

    yield start
    for service in services:
        running = service.process.poll() is None
        status = service.stop()
        assert not running or status == 0, service.stderr() + service.stdout()[-4000:]
        assert service.left_behind() == []
