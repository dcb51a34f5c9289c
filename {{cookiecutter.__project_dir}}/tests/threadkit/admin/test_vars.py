"""``/debug/vars`` and its findings: every number, asked of nobody who could keep us waiting."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import Client

from threadkit.admin import CONSOLE, ROUTES, AdminApp
from threadkit.admin.findings import RULES, findings
from threadkit.admin.vars import document
from threadkit.concurrency import CancelScope
from threadkit.runtime import RequestRecord, Runtime

MakeRuntime = Callable[..., Runtime]


def test_it_is_json_and_asks_no_check(make_runtime: MakeRuntime) -> None:
    """A check may hang while the database does."""
    runtime = make_runtime()
    asked: list[str] = []

    def away() -> str:
        asked.append("asked")
        return "away"

    runtime.add_check("database", away)
    client = Client(AdminApp(runtime, {**ROUTES, **CONSOLE}))
    answer = client.get("/debug/vars")
    assert answer.status_code == 200
    assert asked == []
    assert answer.get_json()["readiness"] == {
        "ready": None, "failures": {}, "asked_seconds_ago": None,
    }  # fmt: skip
    runtime.readiness()
    seen = client.get("/debug/vars").get_json()
    assert asked == ["asked"]
    assert seen["readiness"]["failures"] == {"database": "away"}
    assert seen["readiness"]["asked_seconds_ago"] >= 0
    assert seen["findings"][0] == {
        "severity": "error", "about": "readiness database", "text": "Not ready, database: away",
    }  # fmt: skip


def test_a_room_that_cannot_tell_its_numbers_does_not_hide_the_others(
    make_runtime: MakeRuntime,
) -> None:
    runtime = make_runtime()
    runtime.add_stats("well", lambda: {"n": 1})
    runtime.add_stats("ill", lambda: {"n": 1 // 0})
    stats = document(runtime)["stats"]
    assert stats["well"] == {"n": 1}
    assert stats["ill"]["error"].startswith("ZeroDivisionError")


def test_a_request_in_flight_is_shown_with_its_time_and_its_place(
    make_runtime: MakeRuntime,
) -> None:
    runtime = make_runtime()
    arrived, leave = threading.Event(), threading.Event()

    def serve() -> None:
        with CancelScope(60) as scope:
            record = RequestRecord(id="abc", method="GET", path="/x/1", route="/x/<id>")
            record.root = record.scope = scope
            record.limit = 60.0
            runtime.requests.add(record)
            arrived.set()
            leave.wait(30)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert arrived.wait(5)
        (shown,) = document(runtime)["requests"]["list"]
    finally:
        leave.set()
        thread.join(5)
    assert shown["id"] == "abc"
    assert shown["route"] == "/x/<id>"
    assert 0 <= shown["age_seconds"] < 60
    assert 0 < shown["left_seconds"] <= 60
    assert not shown["cancelled"]
    assert "test_vars.py" in shown["at"]
    assert "serve" in shown["at"]
    assert shown["state"] == "condition"


def test_the_command_line_shows_no_secret(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["gunicorn", "--admin-token", "hush", "-e", "ADMIN_TOKEN=hush", "mysql://me:hush@db/x"]
    monkeypatch.setattr(sys, "orig_argv", given)
    shown = document(make_runtime())["cmdline"]
    assert shown[0] == "gunicorn"
    assert "hush" not in " ".join(shown)


HEALTHY: dict[str, Any] = {
    "readiness": {"ready": True, "failures": {}, "asked_seconds_ago": 1.0},
    "requests": {"list": []},
    "process": {"descriptors": 10, "descriptors_max": 1024},
    "stats": {
        "pulse": {"p99": 0.0001},
        "garbage": {"pause_seconds_max": 0.001},
        "database": {
            "read_in_use": 0, "read_size": 8, "write_in_use": 0, "write_size": 8,
        },
        "tasks": {
            "bulkhead": {
                "admission": {
                    "inside": 1, "waiting": 0, "max_concurrent": 8, "max_waiting": 16,
                }
            },
            "executor": {"shared": {"queued": 0, "queue_size": 64}},
            "background": {"background": {"pending": 0, "queue_size": 64, "dropped": 0}},
            "cache": {"prices": {"loads": 10, "load_failures": 1}},
        },
    },
}  # fmt: skip


def test_a_healthy_worker_has_no_findings() -> None:
    assert findings(HEALTHY) == []


@pytest.mark.parametrize(
    ("path", "value", "severity", "words"),
    [
        ("readiness.failures", {"database": "away"}, "error", "database: away"),
        (
            "requests.list",
            [{"method": "GET", "route": "/x", "path": "/x", "age_seconds": 9.5,
              "left_seconds": -6.5, "at": "items.py:3 get"}],
            "error",
            "GET /x for 9.5 s at items.py:3 get",
        ),
        ("stats.tasks.bulkhead.admission.inside", 8, None, ""),
        ("stats.tasks.executor.shared.queued", 64, "error", "the queue is full with 64"),
        ("stats.tasks.background.background.dropped", 2, "warning", "dropped 2"),
        ("stats.tasks.cache.prices.load_failures", 9, "warning", "9 of 10 loads failed"),
        ("stats.database.write_in_use", 8, "warning", "All 8 connections of the write pool"),
        ("stats.pulse.p99", 0.04, "warning", "40 ms late"),
        ("stats.garbage.pause_seconds_max", 0.5, "warning", "500 ms"),
        ("process.descriptors", 1000, "warning", "1000 of 1024"),
        ("stats.database.error", "OSError: away", "warning", "cannot tell its numbers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(path: str, value: Any, severity: str | None, words: str) -> None:
    sick = copy.deepcopy(HEALTHY)
    *parents, last = path.split(".")
    place = sick
    for parent in parents:
        place = place[parent]
    place[last] = value
    found = findings(sick)
    assert [f["severity"] for f in found] == ([severity] if severity else [])
    if found:
        assert words in found[0]["text"]


def test_a_full_admission_is_worse_than_a_line_and_stands_first() -> None:
    sick = copy.deepcopy(HEALTHY)
    admission = sick["stats"]["tasks"]["bulkhead"]["admission"]
    sick["stats"]["pulse"]["p99"] = 1.0
    admission.update(inside=8, waiting=3)
    assert {f["severity"] for f in findings(sick)} == {"warning"}
    admission.update(waiting=16)
    assert findings(sick)[0]["severity"] == "error"
    assert "16 waiting: refusing" in findings(sick)[0]["text"]


def test_a_line_is_a_warning_when_it_is_half_full_and_an_error_when_it_is_full() -> None:
    sick = copy.deepcopy(HEALTHY)
    for waiting, severity in ((0, []), (7, []), (8, ["warning"]), (16, ["error"])):
        sick["stats"]["line"] = {"running": 8, "waiting": waiting, "most_waiting": 16}
        assert [f["severity"] for f in findings(sick)] == severity


def test_findings_of_a_document_with_nothing_in_it_are_none() -> None:
    assert findings({}) == []
    assert len(RULES) > 5
