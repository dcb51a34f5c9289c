"""The live console, in a real browser, against what the service really does."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from ..servers.browser import Browser
from ..servers.processes import PROJECT, eventually
from ..servers.service import Service

Start = Callable[..., Service]

OWNER = next((PROJECT / "src").glob("*/app.py")).parent.name
# Handlers that do what handlers do when all goes wrong.
HANDLERS = f"""
import threading, time
import flask
from sqlalchemy import text
from threadkit import Bulkhead, TaskGroup, sleep
from threadkit.database import read
from {OWNER}.app import create_app

app = create_app()
reports = Bulkhead("reports", max_concurrent=1, max_waiting=4, max_wait=2.0)


@app.get("/deaf")
def deaf():
    "Never looks at its scope."
    time.sleep(float(flask.request.args["seconds"]))
    return {{}}


@app.get("/waits/<name>")
def waits(name):
    sleep(float(flask.request.args["seconds"]))
    return {{}}


@app.get("/computes")
def computes():
    until = time.monotonic() + float(flask.request.args["seconds"])
    while time.monotonic() < until:
        sum(range(1000))
    return {{}}


@app.get("/reports")
def report():
    with reports, read() as db, TaskGroup(name="parts") as group:
        db.execute(text("SELECT count(*) FROM items WHERE name != 'a name'")).scalar()
        group.start(sleep, 0.05)
    return {{}}
"""


@pytest.fixture
def console(start: Start, tmp_path: Path) -> Callable[..., Service]:
    """A service with those handlers."""
    (tmp_path / "handlers_of_the_test.py").write_text(textwrap.dedent(HANDLERS))

    def started(**environ: str) -> Service:
        arguments = ("-c", "gunicorn.conf.py", "handlers_of_the_test:app")
        return start(*arguments, PYTHONPATH=f"{tmp_path}:{PROJECT / 'src'}", **environ)

    return started


@contextmanager
def in_flight(service: Service, *paths: str) -> Iterator[list[Future[urllib3.BaseHTTPResponse]]]:
    """Requests that run while the block does; waits until the service has them all."""
    with ThreadPoolExecutor(len(paths)) as asking:
        asked = [asking.submit(service.ask, "GET", path, timeout=30) for path in paths]
        wanted = len(paths)
        eventually(lambda: len(running(service)) >= wanted, what=f"{wanted} requests in flight")
        yield asked


def workers(service: Service) -> list[dict[str, Any]]:
    answer = service.ask("GET", "/debug/vars?pid=all", admin=True)
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.json()["workers"]
    return found


def running(service: Service) -> list[dict[str, Any]]:
    return [r for worker in workers(service) for r in worker["requests"]["list"]]


def test_numbers_are_those_of_all_workers(console: Callable[..., Service]) -> None:
    service = console(REQUEST_TIMEOUT="20")
    with in_flight(service, "/waits/a?seconds=4", "/waits/b?seconds=4"):
        seen = running(service)
        assert {r["path"] for r in seen} == {"/waits/a", "/waits/b"}
        assert {r["route"] for r in seen} == {"/waits/<name>"}
        assert all(r["doing"]["kind"] == "sleep" for r in seen)
        assert all("handlers_of_the_test.py" in r["at"] for r in seen)
        # Cancelled in whichever worker has it, by whichever worker is asked.
        for request in seen:
            target = f"/debug/requests/{request['id']}/cancel"
            assert service.ask("POST", target, admin=True).status == 200
        eventually(lambda: not running(service), what="both have ended", seconds=2)
    ours = service.records("request cancelled by an operator")
    assert {r["path"] for r in ours} == {"/waits/a", "/waits/b"}


def test_a_cancelled_request_answers_its_client(console: Callable[..., Service]) -> None:
    service = console(REQUEST_TIMEOUT="20")
    with in_flight(service, "/waits/a?seconds=10") as (asked,):
        (request,) = running(service)
        target = f"/debug/requests/{request['id']}/cancel"
        strange = service.ask("POST", target, admin=True, headers={"Origin": "http://evil.test"})
        assert strange.status == 403
        assert service.ask("POST", target, admin=True).status == 200
        answer = asked.result(5)
    assert answer.status == 503
    assert answer.json()["detail"] == "The request was cancelled."
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_slow_request_is_kept_with_its_timeline(console: Callable[..., Service]) -> None:
    service = console(WORKERS="1")
    assert service.ask("GET", "/reports").status == 200

    def kept() -> list[dict[str, Any]]:
        return [s for s in workers(service)[0]["slow"] if s["route"] == "/reports"]

    (slow,) = eventually(kept, what="it is kept")  # which it is after its answer
    kinds = [span["kind"] for span in slow["spans"]]
    assert "query" in kinds
    assert "join" in kinds
    assert "task" in kinds
    (query,) = [span for span in slow["spans"] if span["kind"] == "query"]
    assert query["name"].startswith("SELECT count(*) FROM items")
    assert "a name" not in json.dumps(slow)
    assert 0 <= query["at"] < slow["seconds"]
    (join,) = [span for span in slow["spans"] if span["kind"] == "join"]
    assert 0.02 < join["seconds"] <= slow["seconds"]


def test_it_answers_while_every_thread_is_stuck_and_the_queue_is_full(
    console: Callable[..., Service],
) -> None:
    service = console(
        WORKERS="2", CONCURRENCY="2", QUEUE_SIZE="2", QUEUE_TIMEOUT="2.5", REQUEST_TIMEOUT="4"
    )
    stop = threading.Event()

    def press() -> None:
        http = urllib3.PoolManager(retries=False, timeout=20)
        while not stop.is_set():
            http.request("GET", service.url + "/deaf?seconds=2").release_conn()
            http.clear()  # the next one may meet the other worker

    def full() -> bool:
        """In every worker as many run as may, and others wait."""
        lines = [worker["stats"]["line"] for worker in workers(service)]
        return len(lines) == 2 and all(line["waiting"] == 2 for line in lines)

    took: dict[str, list[float]] = {"/debug/": [], "/debug/vars?pid=all": []}
    with ThreadPoolExecutor(12) as pressing:
        try:
            for _ in range(12):
                pressing.submit(press)
            eventually(full, what="every worker is full")
            for _ in range(5):
                for path, seconds in took.items():
                    began = time.monotonic()
                    assert service.ask("GET", path, admin=True).status == 200
                    seconds.append(time.monotonic() - began)
            found = {f["about"] for worker in workers(service) for f in worker["findings"]}
        finally:
            stop.set()
    assert max(min(seconds) for seconds in took.values()) < 0.25, took
    assert "line" in found


def test_a_worker_that_does_not_answer_is_named_and_not_waited_for(
    console: Callable[..., Service],
) -> None:
    service = console(WORKERS="2")
    before = {worker["pid"] for worker in workers(service)}
    assert len(before) == 2
    victim = min(before)
    os.kill(victim, signal.SIGSTOP)
    try:
        # A thread that is about to accept a connection may do so before it stops.
        eventually(lambda: stopped(victim), what="it is there and says nothing")
        began = time.monotonic()
        answer = service.ask("GET", "/debug/vars?pid=all", admin=True).json()
        took = time.monotonic() - began
        alone = service.ask("GET", f"/debug/vars?pid={victim}", admin=True)
    finally:
        os.kill(victim, signal.SIGCONT)
    assert [worker["pid"] for worker in answer["workers"]] == sorted(before - {victim})
    assert [missing["pid"] for missing in answer["missing"]] == [victim]
    assert "no answer" in answer["missing"][0]["reason"]
    assert took < 1
    assert alone.status == 503
    assert service.ask("GET", "/debug/vars?pid=1", admin=True).status == 404


def stopped(pid: int) -> bool:
    """Whether all of its threads are."""
    states = [
        (task / "stat").read_text().rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return set(states) == {"T"}


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.run(f"return document.querySelector('{selector}').innerText"))


def test_what_it_shows_is_what_happens(console: Callable[..., Service], tmp_path: Path) -> None:
    service = console(REQUEST_TIMEOUT="20")
    with Browser.start(tmp_path / "browser") as browser:
        browser.show(width=1280, height=900, dark=False)
        browser.open(service.admin_url + "/debug/")
        eventually(lambda: text_of(browser, "#workers"), what="the first numbers")
        # A loaded machine makes threads late, which is a warning; nothing is an error.
        assert "ERROR" not in text_of(browser, "#findings")
        assert "nothing" in text_of(browser, "#requests h2")

        # A request appears with its endpoint and its age, and the button ends it.
        with in_flight(service, "/waits/here?seconds=15") as (asked,):
            eventually(lambda: "/waits/<name>" in text_of(browser, "#requests"), what="its row")
            row = text_of(browser, "#requests tbody tr")
            assert "/waits/here" in row
            assert "sleep" in row
            first = age(browser)
            eventually(lambda: age(browser) > first + 0.5, what="its age grows", seconds=5)
            (known,) = running(service)
            assert abs(age(browser) - known["age_seconds"]) < 3
            browser.click("#requests button")
            assert asked.result(5).status == 503
            browser.click("#title")  # the pointer leaves the list
            eventually(
                lambda: "nothing" in text_of(browser, "#requests h2"), what="the row has gone"
            )

        # What is wrong comes first: a handler that is deaf to its time limit.
        check_numbers(browser, service)
        check_looks(browser, tmp_path)
        assert browser.console() == []
        assert {url.split("?")[0] for url in browser.requested()} == {
            f"{service.admin_url}/debug/",
            f"{service.admin_url}/debug/vars",
            f"{service.admin_url}/debug/requests/{known['id']}/cancel",
        }


def age(browser: Browser) -> float:
    shown = text_of(browser, "#requests tbody td")
    number, unit = shown.split()
    return float(number) / (1000 if unit == "ms" else 1)


def check_numbers(browser: Browser, service: Service) -> None:
    """Every worker, each limit and the pools, as /debug/vars has them."""
    pids = sorted(worker["pid"] for worker in workers(service))
    shown = browser.run(
        "return [...document.querySelectorAll('#workers tbody td:first-child')]"
        ".map(cell => Number(cell.innerText))"
    )
    assert shown == pids
    limits = sum(
        worker["stats"]["tasks"]["bulkhead"]["admission"]["max_concurrent"]
        for worker in workers(service)
    )
    assert f"0/{limits}" in text_of(browser, "#limits tbody tr")
    sizes = [worker["stats"]["database"]["read_size"] for worker in workers(service)]
    assert f"/{sizes[0]}" in text_of(browser, "#database tbody")


def check_looks(browser: Browser, folder: Path) -> None:
    """Dark and light differ, and a phone need not scroll sideways."""
    del folder
    colours = []
    for dark in (False, True):
        browser.show(width=360, height=780, dark=dark)
        colours.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
        wide = browser.run(
            "return [...document.querySelectorAll('body *')].filter(one =>"
            " one.getBoundingClientRect().right > 361).map(one => one.outerHTML.slice(0, 90))"
        )
        assert wide == []
        assert browser.run("return document.documentElement.scrollWidth") == 360
    assert len(set(colours)) == 2
