"""A request that ends with its worker has one line in the log and counts once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from threadkit.observability import metrics
from threadkit.runtime import RequestRecord
from threadkit.server import dropped


def test_each_is_logged_and_counted_once(capfdbinary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[str, str | None, int]] = []
    monkeypatch.setattr(metrics, "leave", lambda *of: counted.append(of[:3]))
    record = RequestRecord(id="abc", method="GET", path="/x/7")
    record.route = "/x/<int:id>"
    dropped.account_for([record])
    dropped.account_for([record])
    assert counted == [("GET", "/x/<int:id>", 503)]
    (line,) = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    facts = [line[name] for name in ("event", "request_id", "method", "path", "route", "status")]
    assert facts == ["request", "abc", "GET", "/x/7", "/x/<int:id>", 503]
    assert "cut off" in line["dropped"]


def test_a_line_about_the_worker_names_them() -> None:
    (said,) = dropped.described([RequestRecord(id="abc", method="GET", path="/x")])
    assert said == {"id": "abc", "method": "GET", "path": "/x", "seconds": 0.0}
