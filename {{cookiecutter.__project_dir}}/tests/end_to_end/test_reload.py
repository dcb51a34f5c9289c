"""SIGHUP: a configuration that is wrong, an application that cannot start, and a slow one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from ..servers.processes import PROJECT, eventually
from ..servers.service import Service

Start = Callable[..., Service]

(OWNER,) = [p.name for p in (PROJECT / "src").iterdir() if (p / "app.py").is_file()]
CONFIGURATION = f"""
import os, runpy
from pathlib import Path
wanted = Path(__file__).with_name("settings.txt")
os.environ.update(line.split("=") for line in wanted.read_text().splitlines())
globals().update(runpy.run_path({str(PROJECT / "gunicorn.conf.py")!r}))
"""
APP = f"""
import time
from pathlib import Path
from {OWNER}.app import create_app
what = Path(__file__).with_name("what.txt").read_text()
if what == "broken":
    raise RuntimeError("this application cannot start")
time.sleep({{"slow": 3, "slower": 6}}.get(what, 0))
app = create_app()
"""


class Reloaded:
    """A service, what it will find at its next reload, and clients that never rest."""

    def __init__(self, start: Start, folder: Path, *arguments: str, workers: int = 2) -> None:
        self._folder = folder
        (folder / "reloaded.py").write_text(APP)
        (folder / "conf.py").write_text(CONFIGURATION)
        self.give("LOG_LEVEL=INFO", "")
        self.service = start(
            *("-c", str(folder / "conf.py"), *arguments, "reloaded:app"),
            PYTHONPATH=str(folder),
            WORKERS=str(workers),
        )
        self.pids = self.service.pids()

    def give(self, settings: str, what: str) -> None:
        (self._folder / "settings.txt").write_text(settings)
        (self._folder / "what.txt").write_text(what)

    def reload(self, settings: str, what: str = "") -> int:
        """SIGHUP; how many records there were before."""
        self.give(settings, what)
        since = len(self.service.records())
        self.service.send(signal.SIGHUP)
        return since

    def hears(self, event: str) -> None:
        eventually(lambda: self.service.records(event), what=event, seconds=30)

    @contextmanager
    def busy(self) -> Iterator[list[float]]:
        """Clients that ask all the time; how long each answer took. All must be 200."""
        stop, took, wrong = threading.Event(), list[float](), list[object]()

        def ask() -> None:
            with urllib3.PoolManager(retries=False, timeout=15) as http:
                while not stop.wait(0.01):
                    began = time.monotonic()
                    try:
                        answer = http.request(
                            "GET", self.service.url + "/v1/items", headers={"Connection": "close"}
                        )
                    except urllib3.exceptions.HTTPError as error:
                        wrong.append(repr(error))
                        continue
                    took.append(time.monotonic() - began)
                    if answer.status != 200:
                        wrong.append(answer.status)

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        try:
            yield took
        finally:
            stop.set()
            for thread in asking:
                thread.join(20)
        assert wrong == []
        assert took


@pytest.fixture
def reloaded(start: Start, tmp_path: Path) -> Reloaded:
    folder = tmp_path / "reloaded"
    folder.mkdir()
    return Reloaded(start, folder)


def test_what_is_wrong_at_a_reload_leaves_the_old_workers_serving(reloaded: Reloaded) -> None:
    service = reloaded.service
    with reloaded.busy():
        reloaded.reload("CONCURRENCY=many\nQUEUE_TIMEOUT=never")
        reloaded.hears("the configuration is refused, nothing has changed: see stderr for why")
        assert "CONCURRENCY='many'" in service.stderr()
        assert "QUEUE_TIMEOUT='never'" in service.stderr()
        assert service.pids() == reloaded.pids
        reloaded.reload("LOG_LEVEL=INFO", "broken")
        reloaded.hears("the new workers could not start: those that serve go on, as they were")
        assert "this application cannot start" in service.stdout() + service.stderr()
        since = len(service.records())
        assert service.pids(since=since) <= reloaded.pids
    # And once it is right, it is taken.
    since = reloaded.reload("LOG_LEVEL=INFO")
    eventually(
        lambda: len(service.pids(since=since) - reloaded.pids) == 2, what="new workers answer"
    )


def test_an_application_that_starts_slowly_is_waited_for(reloaded: Reloaded) -> None:
    service = reloaded.service
    with reloaded.busy() as took:
        since = reloaded.reload("LOG_LEVEL=INFO", "slow")
        eventually(
            lambda: len(service.pids(since=since) - reloaded.pids) == 2,
            what="new workers answer",
            seconds=30,
        )
    # Not the three seconds in which the new workers could not answer.
    assert max(took) < 2.5


def test_a_reload_is_no_stop_of_the_service(start: Start) -> None:
    """Neither a fresh connection nor a kept one hears that the service is not ready."""
    service = start(DRAIN_DELAY="1")
    old, since = service.pids(), len(service.records())
    stop, heard = threading.Event(), list[object]()

    def ask(*, admin: bool, kept: bool) -> None:
        headers = {} if kept else {"Connection": "close"}
        url = (service.admin_url if admin else service.url) + "/readyz"
        with urllib3.PoolManager(retries=False, timeout=15) as http:
            while not stop.wait(0.01):
                try:
                    heard.append(http.request("GET", url, headers=headers).status)
                except urllib3.exceptions.HTTPError as error:
                    heard.append(repr(error))

    asking = [
        threading.Thread(target=ask, kwargs={"admin": admin, "kept": kept})
        for admin, kept in ((False, True), (False, True), (False, False), (True, False))
    ]
    for thread in asking:
        thread.start()
    try:
        service.send(signal.SIGHUP)
        eventually(lambda: len(service.pids(since=since) - old) == 2, what="new workers answer")
        eventually(lambda: len(service.records("worker drained")) == 2, what="old ones leave")
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), what="they left")
    finally:
        stop.set()
        for thread in asking:
            thread.join(20)
    assert set(heard) == {200}
    # A stop is one.
    service.http.clear()
    service.send(signal.SIGTERM)
    eventually(lambda: service.ask("GET", "/readyz").status == 503, what="readiness turns false")
    assert service.wait(seconds=15) == 0


def test_a_worker_that_is_worn_out_serves_until_its_successor_does(
    start: Start, tmp_path: Path
) -> None:
    """Though the next one needs several times as long to start as the first one did."""
    worn_out = Reloaded(start, tmp_path, "--max-requests", "50", workers=1)
    worn_out.give("LOG_LEVEL=INFO", "slower")
    service = worn_out.service
    with worn_out.busy() as took:
        since = len(service.records())
        eventually(
            lambda: service.pids(since=since) - worn_out.pids,
            what="a new worker answers",
            seconds=30,
        )
    assert max(took) < 2.5
