"""The parts are assembled in an order in which each finds what it needs."""

from __future__ import annotations

from pathlib import Path

import flask
import pytest

from threadkit.extension import init_app
from threadkit.observability.pulse import Pulse
from threadkit.settings import Settings


def test_what_the_pulse_calls_is_there_from_its_start_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start or a stop may take longer than the second between two of its calls."""
    called = []

    def beat(pulse: Pulse) -> None:
        for fn in pulse._each_second:
            fn()
            called.append(fn)

    monkeypatch.setattr(Pulse, "start", beat)
    monkeypatch.setattr(Pulse, "close", beat)
    settings = Settings(database_url=f"sqlite:///{tmp_path}/app.db", admin_bind="")
    runtime = init_app(flask.Flask("assembled"), settings)
    runtime.start()
    runtime.close()
    assert len(called) >= 4
