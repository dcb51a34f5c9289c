"""What the server room leaves in the process, put back after each test."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from threadkit import listeners
from threadkit.server import metrics_folder


@pytest.fixture(autouse=True)
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which no master has run, whose folders for metrics are the test's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (metrics_folder.VARIABLE, "THREADKIT_METRICS_MASTER", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    metrics_folder.release()
    for name in (metrics_folder.VARIABLE, "THREADKIT_METRICS_MASTER"):
        os.environ.pop(name, None)
    listeners.set_admin(None)
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
