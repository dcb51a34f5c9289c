"""Go's own tool reads every profile: from a file, from the service, and in its web pages."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import urllib3

from ..servers.processes import PROJECT, eventually, free_ports
from ..servers.profiled import Load
from ..servers.service import Service

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed"),
    # Load's threads, and so all answers, need the service for the whole module.
    pytest.mark.usefixtures("load"),
]

GROWTH = "goroutine?seconds=1&pid=all"
QUERIES = {
    "profile?seconds=1&pid=all": ("cpu/nanoseconds", "endpoint /burst"),
    "wall?seconds=1&hz=50&pid=all": ("wall/nanoseconds", "state lock"),
    "wall?seconds=1&pid=all": ("wall/nanoseconds", "state running"),
    "block?seconds=1&pid=all": ("delay/nanoseconds", "state lock"),
    "mutex?pid=all": ("delay/nanoseconds", "lock orders"),
    "heap?pid=all": ("inuse_space/bytes", "pid"),
    "heap?seconds=1&pid=all": ("inuse_space/bytes", "pid"),
    "goroutine?pid=all": ("goroutine/count", "state idle"),
    GROWTH: ("goroutine/count", "thread forgotten"),
    "threadcreate?pid=all": ("threadcreate/count", "pid"),
}
"""Each profile: one of its types, and a label (with a value) that some sample has."""


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[Service]:
    """The workload under gunicorn, one for all of these tests."""
    environ = {"DATABASE_URL": new_database("sqlite"), "PYTHONPATH": str(PROJECT / "tests/servers")}
    command = ("-c", "gunicorn.conf.py", "workload:app")
    made = Service(tmp_path_factory.mktemp("go") / "service", environ, command)
    try:
        yield made.wait_until_ready()
    finally:
        assert made.stop() == 0, made.stderr()
    assert made.left_behind() == []


@pytest.fixture(scope="module")
def load(service: Service) -> Iterator[Load]:
    """Requests that compute, and that want one lock; never without a contention.

    Of clients of their own: those who wait for the lock compute nothing meanwhile, and a second
    had a single sample on a busy machine.
    """
    assert service.ask("GET", "/contend").status == 200
    with (
        Load(service.url, ["/convoy"], clients=4),
        Load(service.url, ["/burst"], clients=2) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def pprof() -> str:
    """The tool itself: what ``go tool`` runs is a process of its own, and not ours to end."""
    done = subprocess.run(
        ["go", "tool", "-n", "pprof"], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Of the tool: what it saves goes into the test's folder."""
    return {**os.environ, "PPROF_TMPDIR": str(tmp_path), "HOME": str(tmp_path)}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(pprof: str, environ: dict[str, str]) -> Run:
    """Run the tool to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [pprof, *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def go(run: Run) -> Callable[..., str]:
    """What it prints, where it succeeds."""

    def go(*arguments: str) -> str:
        done = run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    return go


@pytest.mark.parametrize("query", QUERIES)
def test_it_reads_every_profile(
    service: Service, go: Callable[..., str], tmp_path: Path, query: str
) -> None:
    kind, label = QUERIES[query]
    with ExitStack() as stack:
        if query == GROWTH:  # else there may be none
            stack.enter_context(Load(service.url, ["/leak"], clients=1, pause=0.2))
        answer = service.ask("GET", f"/debug/pprof/{query}", admin=True)
    assert answer.status == 200, answer.data
    file = tmp_path / "profile.pb.gz"
    file.write_bytes(answer.data)
    text = go("-top", str(file))  # its unit follows the total: 950ms, and 0.95s of more than 1s
    assert re.search(r"flat +flat%.*\n +-?[0.]*[1-9]", text), text
    types = re.search(r"^Samples:\n(.*)$", go("-raw", str(file)), re.M)
    assert types is not None
    assert kind in types[1].replace("[dflt]", "").split()
    key, _, value = label.partition(" ")
    tags = go("-tags", str(file))
    assert re.search(rf"^ *{key}: .*\n(?:.+\n)*?.*: {value}", tags, re.M), (tags, text)
    if shutil.which("dot"):
        assert "</svg>" in go("-svg", "-output=/dev/stdout", str(file))


def test_it_fetches_by_itself_and_names_what_computes(
    service: Service, go: Callable[..., str]
) -> None:
    address = f"{service.admin_url}/debug/pprof/profile?seconds=1&pid=all"
    text = go("-top", "-tagfocus=endpoint:/burst", address)
    assert "Type: cpu" in text
    assert {"burst", "work"} <= {line.split()[-1] for line in text.splitlines() if line}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("allocs", "501 Not Implemented - CPython keeps no account of past allocations"),
        ("nonsense", "404 Not Found - Unknown profile"),
        ("wall?seconds=61", "400 Bad Request - profile duration exceeds the limit of 60 seconds"),
    ],
)
def test_it_tells_why_there_is_no_profile(
    service: Service, run: Run, query: str, said: str
) -> None:
    done = run("-top", f"{service.admin_url}/debug/pprof/{query}")
    assert done.returncode != 0
    assert said in done.stderr


def test_it_tells_that_another_profile_runs(service: Service, run: Run) -> None:
    pid = min(service.pids())
    base = f"/debug/pprof/{{}}&pid={pid}"
    with closing(socket.create_connection(("127.0.0.1", service.admin_port), 5)) as other:
        other.sendall(f"GET {base.format('profile?seconds=60')} HTTP/1.0\r\n\r\n".encode())

        def runs() -> bool:
            dump = service.ask("GET", base.format("goroutine?debug=2"), admin=True).data
            return b"/profiling/pyspy.py" in dump or b"/profiling/inprocess.py" in dump

        eventually(runs, what="a profile runs")
        done = run("-top", service.admin_url + base.format("profile?seconds=1"))
    assert done.returncode != 0
    assert "Could not enable CPU profiling: cpu profiling already in use" in done.stderr
    again = base.format("mutex?seconds=1")
    eventually(
        lambda: service.ask("GET", again, admin=True).status == 200, what="the place is free again"
    )


def test_its_web_pages_show_a_profile(
    service: Service, pprof: str, environ: dict[str, str], tmp_path: Path
) -> None:
    answer = service.ask("GET", "/debug/pprof/profile?seconds=1&pid=all", admin=True)
    (tmp_path / "profile.pb.gz").write_bytes(answer.data)
    (port,) = free_ports(1)
    http = urllib3.PoolManager(retries=False, timeout=20)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [pprof, f"-http=127.0.0.1:{port}", "-no_browser", str(tmp_path / "profile.pb.gz")],
            env=environ,
            stdout=log,
            stderr=log,
        )
    try:

        def page(path: str) -> str:
            try:
                found = http.request("GET", f"http://127.0.0.1:{port}{path}")
            except urllib3.exceptions.HTTPError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                return ""
            assert found.status == 200, found.data
            return found.data.decode()

        eventually(lambda: page("/ui/top"), what="the pages are served")
        for path in ("/ui/top", "/ui/flamegraph", "/ui/peek?f=work", "/ui/"):
            if path != "/ui/" or shutil.which("dot"):
                assert "work" in page(path), path
                assert "burst" in page(path), path
    finally:
        process.terminate()
        process.wait(10)
        http.clear()
