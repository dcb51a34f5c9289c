"""How the service starts, and how it says that it cannot."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from ..servers.processes import PROJECT, eventually
from ..servers.service import Service

Start = Callable[..., Service]
NewDatabase = Callable[..., str]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def ended(service: Service) -> tuple[int, str]:
    """Status and complaints of a service that was not to start; nothing of it is left."""
    status = service.wait(seconds=20)
    assert service.left_behind() == []
    return status, service.stderr().strip()


def package() -> str:
    """The owner's package, which the tests cannot know by name."""
    return next(p.parent.name for p in (PROJECT / "src").glob("*/wsgi.py"))


def test_gunicorn_alone_serves_both_addresses(start: Start) -> None:
    service = start()
    assert service.ask("GET", "/livez").json() == {"status": "alive"}
    assert service.ask("GET", "/readyz").json() == {"status": "ready"}
    assert service.ask("GET", "/livez", admin=True).json() == {"status": "alive"}
    assert service.ask("GET", "/readyz", admin=True).json() == {"status": "ready"}
    assert service.ask("GET", "/metrics", admin=True).status == 200
    assert b"/metrics" in service.ask("GET", "/", admin=True).data


def seconds_to_the_first_answer(service: Service) -> float:
    """From the start of the process; the service is stopped again."""

    def answers() -> bool:
        try:
            return service.ask("GET", "/v1/items").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    eventually(answers, what="the service answers")
    seconds = time.monotonic() - service.started
    service.wait_until_ready().stop()
    return seconds


def test_it_answers_within_three_seconds(start: Start) -> None:
    """The best of three starts, since the machine may be busy with something else."""
    attempts = (seconds_to_the_first_answer(start(ready=False)) for _ in range(3))
    assert any(seconds < 3 for seconds in attempts)


def test_one_line_says_what_was_decided(start: Start) -> None:
    service = start(WORKERS="2", CONCURRENCY="3", QUEUE_SIZE="1")
    (record,) = service.records("serving")
    assert record["address"] == service.url
    assert record["admin"] == service.admin_url
    assert (record["workers"], record["threads"], record["concurrency"]) == (2, 8, 3)


def test_without_an_admin_address_only_the_public_one_is_there(start: Start) -> None:
    service = start(ADMIN_BIND="")
    assert service.ask("GET", "/readyz").status == 200
    with pytest.raises(urllib3.exceptions.HTTPError):
        service.ask("GET", "/livez", admin=True)


def test_every_fault_of_the_settings_comes_in_one_message(start: Start) -> None:
    service = start(
        ready=False,
        WORKERS="many",
        BIND="nowhere",
        DATABASE_URL="oracle://x/y",
        QUEUE_TIMEOUT="9",
        REQUEST_TIMEOUT="3",
        ADMIN_BIND="0.0.0.0:0",
        LOG_FORMAT="xml",
        WORKER_CLASS="gevent",
    )
    status, complaint = ended(service)
    assert status == 1
    for name in (
        "WORKERS",
        "BIND",
        "DATABASE_URL",
        "QUEUE_TIMEOUT",
        "ADMIN_BIND",
        "ADMIN_TOKEN",
        "LOG_FORMAT",
        "WORKER_CLASS='gevent'",
    ):
        assert name in complaint
    assert "Traceback" not in complaint
    assert complaint.splitlines()[0].endswith("settings are wrong:")


def test_a_password_in_a_wrong_setting_is_not_shown(start: Start) -> None:
    status, complaint = ended(start(ready=False, DATABASE_URL="oracle://me:hush@host/name"))
    assert status == 1
    assert "hush" not in complaint


@pytest.mark.parametrize("variable", ["BIND", "ADMIN_BIND"])
def test_a_port_in_use_is_one_line_with_address_and_remedy(
    start: Start, taken: int, variable: str
) -> None:
    service = start(ready=False, **{variable: f"127.0.0.1:{taken}"})
    status, complaint = ended(service)
    assert status != 0
    assert complaint == (
        f"Cannot listen on 127.0.0.1:{taken}: another process listens there. "
        f"Stop it, or set {variable} to another port."
    )
    assert time.monotonic() - service.started < 4
    assert [r for r in service.records() if r["level"] not in ("info", "debug")] == []
    assert not any("Booting worker" in r["event"] for r in service.records())


def test_a_second_service_on_the_same_ports_leaves_the_first_alone(start: Start) -> None:
    first = start()
    second = start(ready=False, BIND=first.environ["BIND"], ADMIN_BIND=first.environ["ADMIN_BIND"])
    status, complaint = ended(second)
    assert status != 0
    assert complaint.startswith(f"Cannot listen on {first.environ['BIND']}")
    assert first.ask("GET", "/readyz").status == 200


def test_the_application_can_be_named(start: Start) -> None:
    service = start("-c", "gunicorn.conf.py", f"{package()}.wsgi:application")
    assert service.ask("GET", "/v1/items").status == 200


def test_another_application_made_by_create_app_gets_all_of_it(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text(
        f"from {package()}.app import create_app\n"
        "app = create_app()\n"
        "app.add_url_rule('/other', view_func=lambda: 'other')\n"
    )
    service = start("-c", "gunicorn.conf.py", "other:app", PYTHONPATH=str(tmp_path))
    assert service.ask("GET", "/other").data == b"other"
    assert service.ask("GET", "/metrics", admin=True).status == 200
    assert service.records("request")[-1]["route"] == "/other"


@pytest.mark.parametrize("arguments", [["--preload"], ["--workers", "3"], ["--threads", "9"]])
def test_gunicorns_own_options_work(start: Start, arguments: list[str]) -> None:
    service = start(*arguments)
    assert service.ask("POST", "/v1/items", json={"name": "a", "price_cents": 1}).status == 201
    assert service.ask("GET", "/v1/items").status == 200


def test_check_config_checks_and_leaves_nothing(start: Start) -> None:
    status, complaint = ended(start("--check-config", ready=False))
    assert (status, complaint) == (0, "")


@pytest.mark.parametrize(
    ("application", "reason"),
    [
        ("nowhere:app", "No module named 'nowhere'"),
        ("json:nothing", "Failed to find attribute 'nothing' in 'json'."),
        ("wsgiref.simple_server:demo_app", "create_app()"),
    ],
)
def test_an_application_that_cannot_be_served_says_why(
    start: Start, application: str, reason: str
) -> None:
    service = start(application, ready=False)
    status, complaint = ended(service)
    assert status in (3, 4)
    assert set(complaint.splitlines()) == {complaint.splitlines()[0]}
    assert reason in complaint
    assert all(json.loads(line) for line in service.stdout().splitlines())


def test_a_mistake_in_the_code_is_told_once_and_without_frames_of_others(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "mistaken.py").write_text("def broken(:\n")
    service = start("mistaken:app", ready=False, PYTHONPATH=str(tmp_path), LOG_FORMAT="console")
    status, complaint = ended(service)
    assert status == 3
    assert complaint == "invalid syntax (mistaken.py, line 1)"
    told = service.stdout()
    assert told.count("the application cannot be loaded") == 1
    assert told.count("SyntaxError") == 1
    assert "mistaken.py" in told
    assert "importlib" not in told


def test_console_lines_are_for_people(start: Start) -> None:
    service = start(ready=False, LOG_FORMAT="console")
    eventually(lambda: "Booting worker" in service.stdout(), what="workers boot")
    first = service.stdout().splitlines()[0]
    assert "info" in first
    assert not first.startswith("{")
    eventually(lambda: b"200" in _knock(service), what="the service answers")


def _knock(service: Service) -> bytes:
    try:
        return service.raw(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
    except OSError:
        return b""


def test_without_migrations_it_is_not_ready_and_names_the_remedy(
    start: Start, new_database: NewDatabase
) -> None:
    service = start(DATABASE_URL=new_database("sqlite", migrated=False))
    for answer in (
        service.ask("GET", "/readyz"),
        service.ask("GET", "/readyz", admin=True),
        service.ask("GET", "/v1/items"),
        service.ask("POST", "/v1/items", json={"name": "a", "price_cents": 1}),
    ):
        assert answer.status == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "make migrate" in answer.json()["detail"]
        assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert service.ask("GET", "/livez").status == 200
