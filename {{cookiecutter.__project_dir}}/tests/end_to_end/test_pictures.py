"""The pictures in docs/pictures, taken of a service that has a bad night.

PICTURES=docs/pictures python -m pytest tests/end_to_end/test_pictures.py
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from ..servers import pictures
from ..servers.browser import Browser
from ..servers.processes import PROJECT, eventually
from ..servers.service import Service

Start = Callable[..., Service]

pytestmark = pytest.mark.skipif(
    not pictures.wanted(), reason="pictures are made where PICTURES names a folder"
)

OWNER = next((PROJECT / "src").glob("*/app.py")).parent.name
HANDLERS = f"""
import time
from sqlalchemy import text
from threadkit import Bulkhead, Cache, TaskGroup, sleep
from threadkit.database import read
from {OWNER}.app import create_app

app = create_app()
reports = Bulkhead("reports", max_concurrent=2, max_waiting=8, max_wait=1.5)
prices = Cache(max_entries=1000, ttl=0.3, name="prices")
SLOW = text(
    "WITH RECURSIVE days(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM days WHERE n < 250000) "
    "SELECT count(*) FROM days, (SELECT max(price_cents) FROM items)"
)


@app.get("/v1/reports/<month>")
def report(month):
    with reports, read() as db:
        count = db.execute(SLOW).scalar()
    total = render(count)
    sleep(0.15)
    return {{"month": month, "total": total}}


def render(count):
    return sum(part(n) for n in range(12))


def part(n):
    return sum(i * i for i in range(12_000)) % (n + 7)


@app.get("/v1/overview/<int:number>")
def overview(number):
    def related():
        with read() as db:
            db.execute(text("SELECT name FROM items WHERE price_cents > :p"), {{"p": 300}}).all()
        sleep(0.05 + number % 3 * 0.04)

    with TaskGroup(name="overview") as group:
        group.start(related)
        group.start(prices.get_or_load, number % 20, lambda: sleep(0.12))
    return {{"number": number}}


@app.get("/v1/exports/<int:number>")
def export(number):
    time.sleep(8)  # a library that knows nothing of time limits
    return {{"number": number}}
"""


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Clients that ask for all of it until the block ends."""
    stop = threading.Event()

    def ask(paths: list[str], pause: float) -> None:
        http = urllib3.PoolManager(retries=False, timeout=20)
        while not stop.is_set():
            http.request("GET", service.url + random.choice(paths))
            http.clear()
            stop.wait(random.random() * pause)

    months = [f"/v1/reports/{month}" for month in ("march", "april", "may")]
    calm = ["/v1/items?limit=20", *(f"/v1/overview/{number}" for number in range(40))]
    threads = [
        *(threading.Thread(target=ask, args=(calm, 0.15)) for _ in range(4)),
        *(threading.Thread(target=ask, args=(months, 0.5)) for _ in range(4)),
        threading.Thread(target=ask, args=(["/v1/exports/7"], 0.5)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def test_pictures(start: Start, tmp_path: Path) -> None:
    (tmp_path / "a_bad_night.py").write_text(HANDLERS)
    service = start(
        *("-c", "gunicorn.conf.py", "a_bad_night:app"),
        PYTHONPATH=f"{tmp_path}:{PROJECT / 'src'}",
        CONCURRENCY="4",
        QUEUE_SIZE="8",
    )
    for number in range(30):
        item = {"name": f"tea no. {number}", "price_cents": 300 + number}
        assert service.ask("POST", "/v1/items", json=item).status == 201
    with Browser.start(tmp_path / "browser") as browser, load(service):
        console = f"{service.admin_url}/debug/"
        browser.show(width=1200, height=1000, dark=False)
        browser.open(console)
        stuck = "return document.querySelector('#findings').innerText.includes('past the time')"
        eventually(lambda: browser.run(stuck), what="a request is stuck", seconds=30)
        points = """return Math.min(...[...document.querySelectorAll("#tiles polyline")].map(
            (line) => line.points.numberOfItems))"""
        eventually(lambda: browser.run(points) >= 20, what="the lines have a length", seconds=60)
        eventually(lambda: browser.run(stuck), what="a request is stuck", seconds=30)
        pictures.save("console", browser.picture())
        browser.show(width=360, height=780, dark=True)
        narrow = "return document.documentElement.scrollWidth === 360"
        eventually(lambda: browser.run(narrow) and browser.run(stuck), what="it is a phone's")
        pictures.save("console-phone", browser.picture())

        browser.show(width=1200, height=640, dark=False)
        browser.open(f"{service.admin_url}/debug/pprof/profile?seconds=4&pid=all&format=html")
        bars = "return [...document.querySelectorAll('#graph button')].map(b => b.textContent)"
        assert {"report", "render"} <= set(browser.run(bars))
        pictures.save("flame-graph", browser.picture())
