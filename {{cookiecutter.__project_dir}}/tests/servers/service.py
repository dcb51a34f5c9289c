"""The service itself, under a real gunicorn, as ``gunicorn`` in the project's folder starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import urllib3

from .processes import PROJECT, eventually, free_ports

# What would change the service if the tests' own environment had it.
_OURS = (
    *("ADMIN_BIND", "ADMIN_TOKEN", "BIND", "CONCURRENCY", "DATABASE_URL", "DRAIN_DELAY"),
    *("BODY_TIMEOUT", "HEADER_TIMEOUT", "MAX_CONNECTIONS", "WORKER_CLASS", "WRITE_TIMEOUT"),
    *("GRACEFUL_TIMEOUT", "LOG_FORMAT", "LOG_LEVEL", "MAX_BODY_BYTES", "QUEUE_SIZE"),
    *("MAX_UNFINISHED_BYTES", "MAX_REQUEST_TIMEOUT", "WATCHDOG_GRACE"),
    *("QUEUE_TIMEOUT", "REQUEST_TIMEOUT", "TRUSTED_HOSTS", "TRUSTED_PROXIES", "WORKERS"),
    *("GUNICORN_CMD_ARGS", "PROMETHEUS_MULTIPROC_DIR", "WEB_CONCURRENCY"),
)


class Service:
    """One master and its workers, in a process group of their own.

    ``folder`` gets the output and is the service's folder for temporary files, so that
    ``left_behind`` can tell what stayed.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        arguments: Sequence[str] = (),
        *,
        project: Path = PROJECT,
    ) -> None:
        self.port, self.admin_port = free_ports(2)
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._output, self._errors = folder / "stdout", folder / "stderr"
        inherited = {k: v for k, v in os.environ.items() if k not in _OURS}
        self.environ = {
            **inherited,
            "BIND": f"127.0.0.1:{self.port}",
            "ADMIN_BIND": f"127.0.0.1:{self.admin_port}",
            "WORKERS": "2",
            "DRAIN_DELAY": "0",
            "TMPDIR": str(self.temporary),
            **environ,
        }
        self.http = urllib3.PoolManager(maxsize=16, retries=False, timeout=15)
        self.started = time.monotonic()
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("gunicorn"), *arguments],
                cwd=project,
                env=self.environ,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """Of the public address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Of the admin address."""
        return f"http://127.0.0.1:{self.admin_port}"

    def stdout(self) -> str:
        """What it has written so far."""
        return self._output.read_text(errors="strict")

    def stderr(self) -> str:
        """What it has complained of so far."""
        return self._errors.read_text(errors="replace")

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log, record by record; of one event where that is named."""
        # A line that is being written has no end yet.
        lines = self.stdout().split("\n")[:-1]
        records = [json.loads(line) for line in lines]
        return [r for r in records if event is None or r["event"] == event]

    def wait_until_ready(self, *, seconds: float = 20.0) -> Service:
        """Until every worker has answered: a connection succeeds long before that."""
        workers = int(self.environ["WORKERS"])
        eventually(lambda: len(self.pids()) >= workers, what="all workers answer", seconds=seconds)
        return self

    def pids(self, *, since: int = 0) -> set[int]:
        """Workers that have answered, by the log lines after the first ``since`` records."""
        if self.process.poll() is not None:
            msg = f"the service has ended:\n{self.stderr()}\n{self.stdout()[-4000:]}"
            raise RuntimeError(msg)
        with ThreadPoolExecutor(4) as several:
            list(several.map(lambda _: self._knock(), range(4)))
        return {r["pid"] for r in self.records()[since:] if r["event"] == "request"}

    def _knock(self) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 5) as s,
        ):
            s.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            s.settimeout(5)
            while s.recv(4096):
                pass

    def ask(
        self, method: str, path: str, *, admin: bool = False, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """One request; ``json``, ``body``, ``headers`` and ``fields`` as in urllib3."""
        base = self.admin_url if admin else self.url
        return self.http.request(method, base + path, redirect=False, **options)

    def raw(self, request: bytes, *, admin: bool = False, seconds: float = 10) -> bytes:
        """Whatever comes back for these bytes, until the service ends the connection."""
        port = self.admin_port if admin else self.port
        with socket.create_connection(("127.0.0.1", port), seconds) as connection:
            connection.sendall(request)
            answer = b""
            while data := connection.recv(65_536):
                answer += data
            return answer

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the master, or all processes as a terminal does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def wait(self, *, seconds: float = 30.0) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def stop(self, *, seconds: float = 30.0) -> int:
        """Stop it in order, and in the end at any price; its exit status."""
        self.http.clear()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def left_behind(self) -> list[str]:
        """What is still there once it has ended: files, processes."""
        left = [str(path) for path in self.temporary.rglob("*")]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 0)
            left.append(f"processes of group {self.process.pid}")
        return left
