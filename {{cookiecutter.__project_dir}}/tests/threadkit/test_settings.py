"""Settings: read from the environment, checked together, reported together."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from threadkit.settings import Settings, SettingsError


class SQLiteSettings(Settings):
    """As an owner's, with a default database."""

    default_database_url: ClassVar[str | None] = "sqlite:///var/app.db"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the machine that runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def fault(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        SQLiteSettings.load()
    return str(caught.value)


def test_every_default_fits_the_others() -> None:
    settings = SQLiteSettings.load()
    assert settings.bind == "127.0.0.1:8000"
    assert settings.admin_bind == "127.0.0.1:9000"
    assert settings.request_timeout == settings.max_request_timeout == 3
    assert settings.max_body_bytes == 1024 * 1024
    assert settings.graceful_timeout > settings.drain_delay + settings.max_request_timeout


def test_without_a_default_the_database_must_be_named() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        Settings.load()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u@h/n", "postgresql+psycopg://u@h/n"),
        ("postgresql://u@h/n", "postgresql+psycopg://u@h/n"),
        ("mysql://u@h/n", "mysql+pymysql://u@h/n"),
        ("sqlite:///var/app.db", "sqlite:///var/app.db"),
    ],
)
def test_a_database_address_gets_the_kits_driver(
    monkeypatch: pytest.MonkeyPatch, given: str, used: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    assert Settings.load().database_url == used


def test_all_faults_come_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    text = fault(
        monkeypatch,
        WORKERS="0",
        REQUEST_TIMEOUT="soon",
        BIND="8000",
        LOG_FORMAT="xml",
    )
    for part in ("WORKERS='0'", "REQUEST_TIMEOUT='soon'", "BIND='8000'", "LOG_FORMAT='xml'"):
        assert part in text
    assert text.startswith("4 settings are wrong:")


def test_conflicts_are_reported_beside_faulty_values(monkeypatch: pytest.MonkeyPatch) -> None:
    text = fault(
        monkeypatch, WORKERS="many", REQUEST_TIMEOUT="2", QUEUE_TIMEOUT="4", BIND="nowhere"
    )
    assert "WORKERS" in text
    assert "BIND" in text
    assert "QUEUE_TIMEOUT=4.0 and REQUEST_TIMEOUT=2.0" in text


def test_secrets_are_not_shown_in_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    text = fault(monkeypatch, DATABASE_URL="oracle://scott:tiger@host/db")
    assert "DATABASE_URL" in text
    assert "tiger" not in text


def test_secrets_are_not_shown_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@h/n")
    monkeypatch.setenv("ADMIN_TOKEN", "hunter3")
    assert "hunter" not in repr(Settings.load())


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9", "", "3s"])
def test_a_time_limit_is_a_positive_number_of_seconds(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    assert "REQUEST_TIMEOUT" in fault(monkeypatch, REQUEST_TIMEOUT=value)


def test_an_admin_address_that_others_reach_needs_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "ADMIN_TOKEN" in fault(monkeypatch, ADMIN_BIND="0.0.0.0:9000")
    monkeypatch.setenv("ADMIN_TOKEN", "a secret of one's own")
    assert SQLiteSettings.load().admin_bind == "0.0.0.0:9000"


def test_two_addresses_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = fault(monkeypatch, BIND="127.0.0.1:8741", ADMIN_BIND="127.0.0.1:8741")
    assert "a port of its own" in text


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:8741", "[::]:8741", ":8741", "localhost:8741", "LOCALHOST:8741"]
)
def test_nor_can_they_be_one_by_another_name(monkeypatch: pytest.MonkeyPatch, bind: str) -> None:
    text = fault(monkeypatch, BIND=bind, ADMIN_BIND="127.0.0.1:8741")
    assert f"BIND={bind} and ADMIN_BIND=127.0.0.1:8741 are one place" in text
    monkeypatch.setenv("BIND", bind.replace("8741", "8742"))
    SQLiteSettings.load()


def test_a_free_port_and_a_unix_socket_are_places_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for bind, admin_bind in (("127.0.0.1:0", "127.0.0.1:0"), ("unix:/tmp/s", "127.0.0.1:9000")):
        monkeypatch.setenv("BIND", bind)
        monkeypatch.setenv("ADMIN_BIND", admin_bind)
        assert SQLiteSettings.load().bind == bind


def test_a_name_that_begins_like_loopback_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ADMIN_TOKEN" in fault(monkeypatch, ADMIN_BIND="127.0.0.1.example.com:9000")


def test_blanks_are_no_token_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for admin_bind in (":9000", "127.0.0.1:9000"):
        text = fault(monkeypatch, ADMIN_BIND=admin_bind, ADMIN_TOKEN="  ")
        assert "ADMIN_TOKEN: it holds nothing but blanks; set it to a secret of your own" in text
    monkeypatch.setenv("ADMIN_TOKEN", " a ")
    assert SQLiteSettings.load().admin_token is not None


@pytest.mark.parametrize("value", ["nope", "gevent", "sync", ""])
def test_a_worker_that_cannot_serve_this_is_a_fault_like_the_others(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    text = fault(monkeypatch, WORKER_CLASS=value, WORKERS="many")
    assert text.startswith("2 settings are wrong:")
    assert f"WORKER_CLASS={value!r}: no worker that can serve this; leave" in text


@pytest.mark.parametrize("value", ["gthread", "threadkit.server.worker.Worker"])
def test_two_workers_can_serve_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WORKER_CLASS", value)
    assert SQLiteSettings.load().worker_class == value


def test_a_level_may_be_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "info")
    assert SQLiteSettings.load().log_level == "INFO"
    assert "LOG_LEVEL='LOUD'" in fault(monkeypatch, LOG_LEVEL="loud")


def test_an_empty_token_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ADMIN_TOKEN" in fault(monkeypatch, ADMIN_BIND=":9000", ADMIN_TOKEN="")


def test_an_empty_admin_address_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_BIND", "")
    assert SQLiteSettings.load().admin_bind == ""


def test_trusted_hosts_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_HOSTS", "example.com, .example.org")
    assert SQLiteSettings.load().trusted_hosts == ["example.com", ".example.org"]


def test_trusted_hosts_are_names_whose_case_and_last_dot_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUSTED_HOSTS", "Example.COM., .Example.org")
    assert SQLiteSettings.load().trusted_hosts == ["example.com", ".example.org"]


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:////", "postgresql://host", "nonsense", ""]
)
def test_an_address_that_names_no_database_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert "DATABASE_URL" in fault(monkeypatch, DATABASE_URL=url)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threadkit.database_url.find_spec", lambda name: None)
    text = fault(monkeypatch, DATABASE_URL="postgresql://u@h/n")
    assert "psycopg" in text
    assert "'.[postgresql]'" in text


def test_a_file_that_cannot_be_written_is_said_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "is a folder" in fault(monkeypatch, DATABASE_URL=f"sqlite:///{tmp_path}")


def test_a_pool_of_no_connections_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = fault(monkeypatch, DATABASE_POOL_SIZE="0")
    assert "DATABASE_POOL_SIZE='0'" in text
    assert "greater than or equal to 1" in text


def test_an_owners_settings_are_checked_with_the_kits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(SQLiteSettings):
        prices_url: str
        page_size: int = 10

    monkeypatch.setenv("PAGE_SIZE", "ten")
    monkeypatch.setenv("WORKERS", "-1")
    with pytest.raises(SettingsError) as caught:
        Own.load()
    for name in ("PRICES_URL is not set", "PAGE_SIZE='ten'", "WORKERS='-1'"):
        assert name in str(caught.value)
