"""A real nginx of the tests' own in front of a service, where the machine has one installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .leavers import connect
from .processes import eventually, find_program, free_ports

KEPT = 8
"""Connections to the service that it keeps open while nobody asks."""


class Nginx:
    """Passes everything on to ``upstream`` (``127.0.0.1:8000`` or ``unix:/path``).

    ``buffering``: gather a request's body before the service hears of the request, as nginx
    does by default. One process; ``folder`` gets all that it writes.
    """

    def __init__(
        self, program: Path, folder: Path, *, upstream: str, buffering: bool = True
    ) -> None:
        folder.mkdir()
        self._log = folder / "log"
        (self.port,) = free_ports(1)
        configuration = folder / "nginx.conf"
        configuration.write_text(self._configuration(folder, upstream, buffering=buffering))
        self._process = subprocess.Popen([program, "-c", configuration, "-p", folder])
        try:
            eventually(self._listens, what="nginx listens")
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def find() -> Path | None:
        """The program."""
        return find_program("nginx", Path("/usr/sbin"))

    def errors(self) -> list[str]:
        """What it has complained of."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def stop(self) -> None:
        """Stop at once."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)

    def _configuration(self, folder: Path, upstream: str, *, buffering: bool) -> str:
        temporary = "\n".join(
            f"{kind}_temp_path {folder};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
daemon off;
master_process off;
pid {folder}/pid;
error_log {self._log} error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_max_body_size 0;
    keepalive_requests 1000000;
    {temporary}
    upstream service {{ server {upstream}; keepalive {KEPT}; }}
    server {{
        listen 127.0.0.1:{self.port};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering {"on" if buffering else "off"};
        }}
    }}
}}
"""

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            msg = f"nginx did not start: {self.errors()}"
            raise RuntimeError(msg)
        try:
            connect(self.port).close()
        except OSError:
            return False
        return True
