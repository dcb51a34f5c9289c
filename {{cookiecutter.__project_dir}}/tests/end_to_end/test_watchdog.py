"""Handlers that are stuck for ever, under a real gunicorn."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3

from ..servers.processes import PROJECT, eventually
from ..servers.service import Service

Start = Callable[..., Service]

(OWNER,) = [p.name for p in (PROJECT / "src").iterdir() if (p / "app.py").is_file()]
APP = f"""
import os, threading
from {OWNER}.app import create_app
from threadkit import sleep

app = create_app()
app.add_url_rule("/who", view_func=lambda: {{"pid": os.getpid()}})


@app.get("/stuck/<int:pid>")
def stuck(pid):
    if os.getpid() == pid:
        threading.Event().wait()
    return "not me"


@app.get("/healthy")
def healthy():
    sleep(1.0)
    return "done"
"""
LIMIT, GRACE, CONCURRENCY = 1.5, 0.5, 4


def ask(service: Service, path: str) -> int | str:
    """The status, or what went wrong with the connection."""
    with urllib3.PoolManager(retries=False, timeout=30) as http:
        try:
            answer = http.request("GET", service.url + path, headers={"Connection": "close"})
        except urllib3.exceptions.HTTPError as error:
            return repr(error)
        return answer.status


def start_asking(service: Service, path: str) -> threading.Thread:
    thread = threading.Thread(target=ask, args=(service, path), daemon=True)
    thread.start()
    return thread


def test_a_worker_whose_threads_are_stuck_is_replaced(start: Start, tmp_path: Path) -> None:
    """All but one thread, for ever; its healthy request and the other worker lose nothing."""
    (tmp_path / "stuckapp.py").write_text(APP)
    service = start(
        *("-c", "gunicorn.conf.py", "stuckapp:app"),
        PYTHONPATH=str(tmp_path),
        REQUEST_TIMEOUT=str(LIMIT),
        QUEUE_TIMEOUT="1.4",
        WATCHDOG_GRACE=str(GRACE),
        CONCURRENCY=str(CONCURRENCY),
    )
    victim, other = sorted(service.pids())
    stop = threading.Event()
    statuses: list[int | str] = []

    def keep_asking() -> None:
        while not stop.wait(0.005):
            statuses.append(ask(service, "/who"))

    others = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in others:
        thread.start()
    try:
        # Sent until enough of them have reached the victim: all its places but one.
        asking: list[threading.Thread] = []
        while sum(thread.is_alive() for thread in asking) < CONCURRENCY - 1:
            asking.append(start_asking(service, f"/stuck/{victim}"))
            asking[-1].join(0.1)
        began = time.monotonic()
        since = len(service.records())
        healthy = start_asking(service, "/healthy")  # in the last place, or at the other worker
        eventually(
            lambda: {r["pid"] for r in service.records("request")[-200:]} - {victim, other},
            what="a new worker answers",
            seconds=LIMIT + GRACE + 15,
        )
        took = time.monotonic() - began
        eventually(lambda: not Path(f"/proc/{victim}").exists(), what="the old one leaves")
        left = time.monotonic() - began
        healthy.join(20)
    finally:
        stop.set()
        for thread in others:
            thread.join(20)
    print(f"replaced after {took:.1f} s, gone after {left:.1f}; deadline + grace {LIMIT + GRACE}")
    assert took < LIMIT + GRACE + 10  # 5 s on a machine that has nothing else to do
    records = service.records()
    (dump,) = [
        r for r in records if r["event"] == "a handler ignores its deadline" and "stacks" in r
    ]
    assert "threading.Event().wait()" in dump["stacks"]
    assert dump["pid"] == victim
    assert [r["status"] for r in records[since:] if r.get("path") == "/healthy"] == [200]
    refused = [r for r in records if r["event"] == "request" and r["status"] != 200]
    assert {r["pid"] for r in refused} <= {victim}, refused
    assert all(isinstance(status, int) for status in statuses), set(map(str, statuses))
    (end,) = [r for r in records if r["event"] == "the worker leaves its stuck threads behind"]
    assert {r["path"] for r in end["requests"]} == {f"/stuck/{victim}"}
    accounted_for(service, end["requests"])
    # The master has gone back to two.
    eventually(lambda: len(workers_of(service)) == 2, what="two workers are left")
    assert service.ask("GET", "/readyz").status == 200


def accounted_for(service: Service, requests: list[dict[str, Any]]) -> None:
    """Each has a line of its own, like a request that was answered."""
    assert requests
    lines = {r["request_id"]: r for r in service.records("request") if "dropped" in r}
    for request in requests:
        line = lines[request["id"]]
        said = (line["method"], line["path"], line["status"], line["pid"] > 0)
        assert said == (request["method"], request["path"], 503, True)
    assert len(lines) == len(requests)


def test_a_stop_that_gives_up_accounts_for_whom_it_cuts_off(start: Start, tmp_path: Path) -> None:
    (tmp_path / "stuckapp.py").write_text(APP)
    service = start(
        *("-c", "gunicorn.conf.py", "stuckapp:app"),
        PYTHONPATH=str(tmp_path),
        WORKERS="1",
        REQUEST_TIMEOUT="0.5",
        WATCHDOG_GRACE="60",
    )
    (pid,) = service.pids()
    asking = start_asking(service, f"/stuck/{pid}")
    eventually(
        lambda: service.ask("GET", "/debug/vars", admin=True).json()["requests"]["list"],
        what="it runs",
    )
    service.http.clear()
    service.send(signal.SIGTERM)
    assert service.wait(seconds=30) == 0
    asking.join(20)
    (drained,) = service.records("worker drained")
    assert [(r["method"], r["path"]) for r in drained["dropped_requests"]] == [
        ("GET", f"/stuck/{pid}")
    ]
    accounted_for(service, drained["dropped_requests"])


def workers_of(service: Service) -> list[int]:
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]
