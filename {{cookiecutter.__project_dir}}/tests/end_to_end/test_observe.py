"""What the running service tells: its log, its metrics, its admin address."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]

TOKEN = "an-admin-token"


def metric(service: Service, pattern: str) -> float:
    """Sum of the samples whose name and labels match."""
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(pattern, line)
    )


def test_metrics_are_those_of_all_workers(start: Start) -> None:
    service = start()
    wanted = r'http_requests_total\{method="GET",route="/v1/items",status="200"\}'

    request = b"GET /v1/items HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    sent = 0

    def both_have_answered() -> bool:
        nonlocal sent
        with ThreadPoolExecutor(8) as clients:
            # A connection each, since one that is kept stays with its worker.
            answers = list(clients.map(service.raw, [request] * 16))
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        sent += len(answers)
        records = [r for r in service.records("request") if r["route"] == "/v1/items"]
        return len({r["pid"] for r in records}) == 2

    eventually(both_have_answered, what="both workers answer")
    # A request is counted after its answer has gone, so the last ones may still be on the way.
    eventually(lambda: metric(service, wanted) == sent, what="every request is counted")
    # Whichever worker is asked, the sum is the same.
    assert {metric(service, wanted) for _ in range(10)} == {sent}
    count = r'http_request_duration_seconds_count\{method="GET",route="/v1/items"\}'
    assert metric(service, count) == sent
    assert metric(service, "http_requests_in_flight") == 0


def test_clients_cannot_make_labels(start: Start) -> None:
    service = start()
    for number in range(20):
        service.ask("GET", f"/invented/{number}")
        service.ask(f"INVENTED{number}", "/v1/items")
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    assert "invented" not in text.lower()
    assert (
        metric(service, r'http_requests_total\{method="GET",route="unmatched",status="404"') == 20
    )
    assert metric(service, r'http_requests_total\{method="OTHER"') == 20


def test_a_request_is_one_line_with_the_contracts_fields(start: Start) -> None:
    service = start()
    answer = service.ask("GET", "/v1/items?limit=5", headers={"X-Request-ID": "abc-1"})
    assert answer.headers["X-Request-ID"] == "abc-1"
    record = eventually(
        lambda: [r for r in service.records("request") if r.get("request_id") == "abc-1"],
        what="the line of the request",
    )[0]
    assert record["method"] == "GET"
    assert record["route"] == "/v1/items"
    assert record["path"] == "/v1/items"
    assert record["status"] == 200
    assert 0 < record["duration_ms"] < 10_000
    assert record["level"] == "info"
    assert record["pid"] in service.pids()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", record["timestamp"])


@pytest.mark.parametrize("given", ["not well-formed", "x" * 129, "é", "a;b"])
def test_a_malformed_request_id_is_replaced(start: Start, given: str) -> None:
    service = start()
    answer = service.ask("GET", "/livez", headers={"X-Request-ID": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_no_request_can_write_a_line_of_its_own(start: Start) -> None:
    """Every line stays a JSON object, whatever clients put where."""
    service = start()
    forged = b'%0a{"event":"forged"}%0d%0a%1b[2J%e2%80%a8%c2%85%ff%00'
    for target in (b"/" + forged, b"/v1/items/" + forged, b"/v1/items?after=" + forged):
        service.raw(b"GET " + target + b" HTTP/1.0\r\nHost: localhost\r\n\r\n")
    service.raw(b"GET / HTTP/1.0\r\nHost: a\x1b[2J\xff\r\nX-Request-ID: \xff\x85\r\n\r\n")
    service.raw(b'{"event":"forged"}\n{"event":"forged"}\n\n')
    service.raw(b"GET /\x0b\xc2\x85 HTTP/1.0\r\nHost: localhost\r\n\r\n")
    events = {record["event"] for record in service.records()}
    assert "forged" not in events
    assert all(c.isprintable() for c in service.stdout().replace("\n", ""))


@pytest.mark.parametrize(
    "path", ["/metrics", "/debug", "/debug/", "/debug/pprof/", "/debug/vars", "/debug/pprof/heap"]
)
def test_nothing_of_the_admin_address_is_public(start: Start, path: str) -> None:
    service = start()
    answer = service.ask("GET", path)
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_with_a_token_the_admin_address_hides_all_but_the_probes(start: Start) -> None:
    service = start(ADMIN_TOKEN=TOKEN)
    assert service.ask("GET", "/livez", admin=True).status == 200
    assert service.ask("GET", "/readyz", admin=True).status == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        for path in ("/", "/metrics", "/debug/", "/nowhere"):
            answer = service.ask("GET", path, admin=True, headers=headers)
            assert answer.status == 404
            assert b"http_requests" not in answer.data
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert service.ask("GET", "/metrics", admin=True, headers=good).status == 200
    assert TOKEN not in service.stdout() + service.stderr()


def test_an_admin_address_for_other_machines_needs_a_token(start: Start) -> None:
    refused = start(ready=False, ADMIN_BIND="0.0.0.0:0")
    assert refused.wait(seconds=20) == 1
    assert "set ADMIN_TOKEN" in refused.stderr()


def test_silent_clients_do_not_keep_the_admin_address_from_answering(start: Start) -> None:
    service = start()
    with ExitStack() as stack:
        for number in range(100):
            silent = stack.enter_context(
                socket.create_connection(("127.0.0.1", service.admin_port), 5)
            )
            silent.sendall(b"GET /metrics HTTP/1.1\r\n" if number % 2 else b"")
        began = time.monotonic()
        assert service.ask("GET", "/livez", admin=True).status == 200
        assert service.ask("GET", "/metrics", admin=True).status == 200
        assert time.monotonic() - began < 3


def test_forwarded_headers_are_believed_only_from_trusted_proxies(start: Start) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}

    def client_seen(service: Service) -> str:
        service.ask("GET", "/v1/items", headers=forwarded)
        record = eventually(
            lambda: [r for r in service.records("request") if r["route"] == "/v1/items"],
            what="the line of the request",
        )[0]
        return str(record["client"])

    assert client_seen(start(TRUSTED_PROXIES="0")) == "127.0.0.1"
    assert client_seen(start(TRUSTED_PROXIES="1")) == "198.51.100.7"
