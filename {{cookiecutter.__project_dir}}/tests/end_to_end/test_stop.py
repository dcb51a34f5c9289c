"""How the service ends, reloads and starts again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]
NewDatabase = Callable[..., str]

ITEM = {"name": "tea", "price_cents": 350}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("group", [False, True], ids=["master", "group"])
def test_it_ends_with_status_0_and_leaves_nothing(
    start: Start, number: signal.Signals, *, group: bool
) -> None:
    service = start()
    service.ask("POST", "/v1/items", json=ITEM)
    service.http.clear()
    service.send(number, group=group)
    assert service.wait(seconds=15) == 0
    assert service.left_behind() == []
    assert service.stderr() == ""
    assert [r for r in service.records() if r["level"] in ("warning", "error", "critical")] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_busy_service_ends_as_well(start: Start, number: signal.Signals) -> None:
    """A signal comes in the midst of whatever the main thread of a worker is doing."""
    service = start()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                service.ask("GET", "/livez")
            except urllib3.exceptions.HTTPError:
                continue

    with ThreadPoolExecutor(6) as asking:
        try:
            for _ in range(6):
                asking.submit(ask)
            eventually(lambda: len(service.records("request")) > 300, what="it is busy")
            service.send(number, group=True)
            began = time.monotonic()
            assert service.wait(seconds=15) == 0
            assert time.monotonic() - began < 5
        finally:
            stop.set()
    assert service.left_behind() == []


def test_a_stop_during_the_start_leaves_nothing(start: Start) -> None:
    service = start(ready=False)
    eventually(lambda: "Starting gunicorn" in service.stdout(), what="the master starts")
    service.send(signal.SIGTERM)
    service.wait(seconds=20)
    eventually(lambda: service.left_behind() == [], what="nothing is left")


def test_a_restart_keeps_the_data(start: Start, database_url: str) -> None:
    first = start(DATABASE_URL=database_url)
    created = first.ask("POST", "/v1/items", json=ITEM)
    assert created.status == 201
    assert first.stop() == 0
    second = start(DATABASE_URL=database_url)
    again = second.ask("GET", created.headers["Location"])
    assert again.json() == created.json()
    assert again.headers["ETag"] == created.headers["ETag"]


def test_a_reload_keeps_serving_and_keeps_the_metrics(start: Start) -> None:
    service = start()
    old = service.pids()
    heard: list[tuple[str, int | str]] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            for path, admin in (("/v1/items", False), ("/livez", True)):
                try:
                    heard.append((path, service.ask("GET", path, admin=admin).status))
                except urllib3.exceptions.HTTPError as error:
                    heard.append((path, repr(error)))
            # A connection that is kept alive may be closed by a worker that leaves, which
            # is no fault of a client that opens one for each request.
            service.http.clear()

    asking = threading.Thread(target=keep_asking, name="asking")
    asking.start()
    try:
        since = len(service.records())
        service.send(signal.SIGHUP)
        eventually(lambda: len(service.pids(since=since) - old) >= 2, what="new workers answer")
        eventually(lambda: not any(map(alive, old)), what="old workers leave")
    finally:
        stop.set()
        asking.join(20)
    assert set(heard) == {("/v1/items", 200), ("/livez", 200)}
    assert len(service.records("serving")) == 1
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    counted = sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("http_requests_total{") and 'route="/v1/items"' in line
    )
    assert counted == len([r for r in service.records("request") if r["route"] == "/v1/items"])


def test_a_new_master_takes_over_both_addresses(start: Start) -> None:
    """USR2: the new one has metrics of its own, the old one then leaves."""
    service = start()
    old_workers = service.pids()
    since = len(service.records())
    service.send(signal.SIGUSR2)
    eventually(lambda: len(service.pids(since=since) - old_workers) >= 2, what="both serve")
    new = next(r["pid"] for r in service.records("serving") if r["pid"] != service.process.pid)
    assert len(list(service.temporary.glob("threadkit-metrics-*"))) == 2
    service.send(signal.SIGTERM)
    assert service.wait(seconds=20) == 0
    try:
        assert service.ask("GET", "/readyz").status == 200
        assert service.ask("GET", "/readyz", admin=True).status == 200
        assert len(list(service.temporary.glob("threadkit-metrics-*"))) == 1
    finally:
        service.http.clear()
        os.kill(new, signal.SIGTERM)
        eventually(lambda: service.left_behind() == [], what="the new master leaves nothing")


def test_a_worker_that_is_killed_is_replaced(start: Start) -> None:
    service = start()
    before = service.pids()
    victim = min(before)
    since = len(service.records())
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(service.pids(since=since) - {victim}) >= 2, what="a new worker answers")
    assert service.ask("GET", "/metrics", admin=True).status == 200


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
