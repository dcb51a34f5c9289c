"""gunicorn's configuration follows from the service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]

from threadkit.server import gunicorn_settings
from threadkit.settings import Settings


class OwnSettings(Settings):
    """As an owner's, with a database of its own."""

    default_database_url = "sqlite:///var/app.db"


OwnSettings.__module__ = "shop.settings"


def configured(tmp_path: Path) -> dict[str, Any]:
    return dict(gunicorn_settings(OwnSettings, tmp_path))


def test_gunicorn_accepts_every_value_under_its_own_name(tmp_path: Path) -> None:
    """An upgrade that renames or retypes a setting fails here."""
    config = Config()
    for name, value in configured(tmp_path).items():
        assert name in config.settings, f"gunicorn has no setting {name}"
        config.set(name, value)
    assert config.worker_class_str == "threadkit.server.worker.Worker"
    assert config.forwarded_allow_ips == []


def test_gunicorns_own_worker_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CLASS", "gthread")
    assert configured(tmp_path)["worker_class"] == "gthread"


def test_the_application_is_the_one_beside_the_settings(tmp_path: Path) -> None:
    settings = configured(tmp_path)
    assert settings["wsgi_app"] == "shop.wsgi:application"
    assert settings["chdir"] == str(tmp_path)


def test_threads_are_those_that_run_and_wait_and_headroom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCURRENCY", "3")
    monkeypatch.setenv("QUEUE_SIZE", "5")
    assert configured(tmp_path)["threads"] == 3 + 5 + 4


def test_the_environment_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIND", "127.0.0.1:1234")
    monkeypatch.setenv("WORKERS", "5")
    monkeypatch.setenv("GRACEFUL_TIMEOUT", "20.5")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    settings = configured(tmp_path)
    assert settings["bind"] == ["127.0.0.1:1234"]
    assert settings["workers"] == 5
    assert settings["graceful_timeout"] == 21  # gunicorn has whole seconds: never fewer
    assert settings["loglevel"] == "warning"


@pytest.mark.parametrize(("asked", "given"), [("1000", 1000), ("1", 20 + 32)])
def test_a_worker_holds_more_connections_than_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, given: int
) -> None:
    monkeypatch.setenv("MAX_CONNECTIONS", asked)
    assert configured(tmp_path)["worker_connections"] == given


def test_what_gunicorn_would_leave_open_is_closed(tmp_path: Path) -> None:
    settings = configured(tmp_path)
    assert settings["control_socket_disable"] is True
    assert settings["forwarded_allow_ips"] == ""
    assert settings["http_parser"] == "python"
    assert settings["keepalive"] > 60


def test_faulty_settings_end_the_start_with_all_faults_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKERS", "many")
    monkeypatch.setenv("BIND", "nowhere")
    with pytest.raises(SystemExit) as ended:
        configured(tmp_path)
    assert ended.value.code == 1
    written = capsys.readouterr().err
    assert "WORKERS" in written
    assert "BIND" in written
    assert "Traceback" not in written
