"""The README's recipes name the culprit: its own commands, on a service with just that fault."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from threadkit.profiling import pyspy

from ..servers.browser import Browser
from ..servers.processes import PROJECT, eventually
from ..servers.profiled import Load
from ..servers.service import Service

Start = Callable[..., Service]

README = (PROJECT / "README.md").read_text()
WINDOW = "seconds=2"
"""Long enough for a load without pauses; the README says more, for a night with little of it."""

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_pyspy = pytest.mark.skipif(pyspy.program() is None, reason="py-spy is not installed")


def commands(recipe: str) -> list[str]:
    """The three commands under the recipe's heading."""
    _, section = README.split(f"### {recipe}\n", 1)
    found = re.findall(r"^\$ (.*)$", re.split(r"^##", section, flags=re.M)[0], re.M)
    assert len(found) == 3
    return found


WORKLOAD = ("-c", "gunicorn.conf.py", "workload:app")
ENVIRON = {"PYTHONPATH": str(PROJECT / "tests/servers"), "WORKERS": "2"}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[Service]:
    """The workload with two workers; what is wrong with it ends with the requests for it."""
    environ = {**ENVIRON, "DATABASE_URL": new_database("sqlite")}
    made = Service(tmp_path_factory.mktemp("recipes") / "service", environ, WORKLOAD)
    try:
        yield made.wait_until_ready()
    finally:
        assert made.stop() == 0, made.stderr()
    assert made.left_behind() == []


@contextmanager
def asked(service: Service, *paths: str, pause: float = 0.0) -> Iterator[None]:
    """Three clients for each path, as long as the block lasts."""
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(service.url, [path], 3, pause)) for path in paths]
        eventually(lambda: all(load.answers for load in loads), what="every path has answered")
        yield


def run(service: Service, command: str, folder: Path) -> str:
    """What the command prints, asked of this service."""
    assert "http://127.0.0.1:9000/" in command
    here = command.replace("http://127.0.0.1:9000", service.admin_url)
    done = subprocess.run(
        ["sh", "-c", re.sub(r"seconds=\d+", WINDOW, here)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def table(page: str, title: str) -> Sequence[str]:
    """The lines of one table of a ``format=top`` page, largest first, without their numbers."""
    found = re.search(rf"^{re.escape(title)}:\n((?:.+\n)+)", page, re.M)
    assert found is not None, page
    return [re.sub(r"^.*? %  ", "", line) for line in found[1].splitlines()]


def names(page: str, title: str) -> list[str]:
    """The functions of such a table, without what the workload wraps around its own."""
    found = [line.partition("  ")[0] for line in table(page, title)]
    return [name for name in found if name not in ("call", "measured.<locals>.call")]


OURS = "your functions, with all that they call"


@needs_pyspy
def test_a_slow_handler(service: Service, tmp_path: Path) -> None:
    compute, wait, picture = commands("A slow handler")
    with asked(service, "/burst", "/stuck", "/stuck"):  # two waiting for one that computes
        page = run(service, compute, tmp_path)
        assert table(page, "by endpoint")[0] == "/burst", page
        assert names(page, OURS)[0] == "burst", page
        assert "alpha" in names(page, OURS), page
        page = run(service, wait, tmp_path)
        assert table(page, "by endpoint")[0] == "/stuck"
        assert names(page, OURS)[0] == "stuck"
        assert table(page, "by state")[0] == "condition"
        assert run(service, picture, tmp_path) == ""
    with Browser.start(tmp_path / "browser") as browser:
        browser.open(f"file://{tmp_path}/slow.html")
        bars = "return [...document.querySelectorAll('#graph button')].map(b => b.textContent)"
        assert {"burst", "alpha"} <= set(browser.run(bars))


def test_a_leaked_thread(start: Start, tmp_path: Path) -> None:
    count, growth, where = commands("A leaked thread")
    service = start(*WORKLOAD, **ENVIRON)  # its own: the threads stay
    with asked(service, "/leak", "/state", pause=0.05):
        assert [service.ask("GET", "/leak").status for _ in range(30)] == [200] * 30
        assert names(run(service, count, tmp_path), "where it is")[0] == "forgotten"
        assert names(run(service, growth, tmp_path), OURS)[0] == "forgotten"
        largest = run(service, where, tmp_path).split("\n\n")[0]
        assert "\tforgotten\t" in largest
        assert re.search(r"^\d\d+ @ .*\n.*\n# threads: forgotten$", largest, re.M)


def test_a_lock_convoy(service: Service, tmp_path: Path) -> None:
    block, mutex, now = commands("A lock convoy")
    # Six clients on two workers: three at least meet in one, and so somebody waits.
    with asked(service, "/convoy", "/convoy"):
        page = run(service, block, tmp_path)
        assert table(page, "by state")[0] == "lock"
        assert names(page, OURS)[0] == "convoy"
        page = run(service, mutex, tmp_path)
        assert table(page, "by lock") == ["orders"]
        assert names(page, "where it is") == ["convoy"]
        waiting = run(service, now, tmp_path).splitlines()
    assert len(waiting) >= 1
    for line in waiting:
        assert re.search(r"GET /convoy, request [0-9a-f]{16,}, age \d\.\d+s, .*left\]", line), line


def test_a_growing_heap(service: Service, tmp_path: Path) -> None:
    size, place, callers = commands("A growing heap")
    with asked(service, "/grow", "/state"):
        lines = run(service, size, tmp_path).splitlines()
        assert sum(line.startswith("# worker ") for line in lines) == 2
        assert sum(line.startswith("# RSS = ") for line in lines) == 2
        page = run(service, place, tmp_path)
        assert names(page, "where it is")[0] == "remember"
        page = run(service, callers, tmp_path)
        assert set(names(page, OURS)[:2]) == {"grow", "remember"}


def test_an_idle_service_waits_for_nothing(service: Service) -> None:
    """Its own threads wait for work, which nobody suffers from."""
    page = service.ask("GET", "/debug/pprof/block?seconds=1&pid=all&format=top", admin=True).data
    assert page.decode().endswith("nothing was seen\n"), page
