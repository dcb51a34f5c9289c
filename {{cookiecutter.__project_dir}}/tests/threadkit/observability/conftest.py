"""Log lines as they leave the process: through file descriptor 1, into a pipe."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import structlog

from threadkit.observability import logs
from threadkit.settings import Settings

Lines = Callable[[], list[str]]
Records = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's: leave it to other tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def configure(log_format: Literal["json", "console"], level: Any = "INFO") -> None:
    logs.configure(Settings(database_url="sqlite:///x.db", log_format=log_format, log_level=level))


@pytest.fixture
def console(capfd: pytest.CaptureFixture[str]) -> Lines:
    """Console lines written since the last call, split at every line boundary of Unicode."""
    configure("console")
    read = capfd.readouterr
    return lambda: read().out.splitlines()  # noqa: PLW0108 - reads anew


@pytest.fixture
def records(capfd: pytest.CaptureFixture[str]) -> Records:
    """Records written as json since the last call; a line that is not one fails the test."""
    configure("json")
    return lambda: [json.loads(line) for line in capfd.readouterr().out.splitlines()]
