"""The two that are compared: a plain Flask app under stock gunicorn, and this service.

Both have the same routes and as many threads that run handlers, on the first core; whatever
makes load is kept off it where the machine has a second one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CONCURRENCY = 8
CORES = sorted(os.sched_getaffinity(0))

_ROUTES = """
notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
LARGE = b"x" * 20_000_000

@app.get("/quick")
def quick():
    return {"quick": True}

@app.get("/wait")
def wait():
    time.sleep(0.1)
    return {"waited": True}

@app.get("/who")
def who():
    return {"pid": os.getpid()}

@app.get("/stuck/<int:pid>")
def stuck(pid):
    if os.getpid() == pid:
        threading.Event().wait()
    return {"stuck": False}

@app.get("/large")
def large():
    return flask.Response(LARGE)

@app.get("/hold/<name>")
def hold(name):
    try:
        sleep(0.5)
    finally:
        os.write(notes, f"{name} {time.monotonic()}\\n".encode())
    return {"held": name}

@app.get("/burn")
def burn():
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        sum(range(100))
    return {"burnt": True}
"""
_PLAIN = (
    "import os, threading, time, flask\nfrom time import sleep\n"
    'app = flask.Flask("plain")\n@app.get("/livez")\n'
    "def livez():\n    return {'status': 'alive'}\n"
)


Start = Callable[..., AbstractContextManager["Subject"]]


@dataclass
class Subject:
    """A running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    def workers(self) -> list[int]:
        """Their process numbers, oldest first."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return sorted(int(pid) for pid in path.read_text().split())

    def notes(self) -> list[tuple[str, float]]:
        """When the requests that hold a thread for a while have ended, by their names."""
        lines = (self.folder / "notes").read_text().splitlines()
        return [(name, float(when)) for name, when in map(str.split, lines)]

    def cpu_seconds(self) -> float:
        """What master and workers have used."""
        return sum(cpu_seconds(pid) for pid in (self.process.pid, *self.workers()))


def cpu_seconds(pid: int) -> float:
    """What this process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def subject(
    name: str, *, workers: int = 1, pinned: bool = True, **settings: str
) -> Iterator[Subject]:
    """Start `stock` or `ours`, wait until it answers, and stop it at the end."""
    cores = CORES[:1] if pinned else CORES
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        gunicorn = Path(sys.executable).with_name("gunicorn")
        bind = f"127.0.0.1:{port}"
        environ: Mapping[str, str] = {**os.environ, "TMPDIR": folder, "NOTES": f"{folder}/notes"}
        source = Path(folder, "subject.py")
        if name == "stock":
            source.write_text(_PLAIN + _ROUTES)
            command = [
                *(str(gunicorn), "-k", "gthread", "--threads", str(CONCURRENCY), "-b", bind),
                *("-w", str(workers), "--no-control-socket", "--keep-alive", "75"),
                *("--pythonpath", folder, "subject:app"),
            ]
        else:
            package = next(p.parent.name for p in (PROJECT / "src").glob("*/wsgi.py"))
            source.write_text(
                f"import os, threading, time, flask\nfrom {package}.app import create_app\n"
                f"from threadkit import sleep\napp = create_app()\n{_ROUTES}"
            )
            command = [str(gunicorn), "-c", "gunicorn.conf.py", "subject:app"]
            environ = {
                **environ,
                "PYTHONPATH": f"{folder}:{PROJECT / 'src'}",
                "DATABASE_URL": f"sqlite:///{folder}/app.db",
                "BIND": bind,
                "ADMIN_BIND": "",
                "WORKERS": str(workers),
                "CONCURRENCY": str(CONCURRENCY),
                **settings,
            }
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cores)), *command],
                cwd=PROJECT if name == "ours" else folder,
                env=dict(environ),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait_until_it_answers(port)
            yield Subject(name, port, process, Path(folder))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait_until_it_answers(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if get(port, "/quick") == 200:
                time.sleep(1)  # for the other workers
                return
        except OSError:
            time.sleep(0.05)
    msg = "the server did not answer within 30 s"
    raise TimeoutError(msg)


def get(port: int, path: str, seconds: float = 5) -> int:
    """The status of one request on a connection of its own; 0 without an answer."""
    with socket.create_connection(("127.0.0.1", port), seconds) as c:
        c.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = c.recv(4096)
    return int(answer[9:12]) if answer else 0


def who(port: int) -> int:
    """The worker that answers; 0 where none does."""
    answer = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 2) as client,
    ):
        client.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while data := client.recv(65_536):
            answer += data
    try:
        document: dict[str, int] = json.loads(answer.partition(b"\r\n\r\n")[2])
    except ValueError:
        return 0
    return document.get("pid", 0)
