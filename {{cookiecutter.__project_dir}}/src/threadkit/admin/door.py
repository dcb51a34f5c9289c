"""A door to an admin address that wants a token, for a browser, which cannot send one by itself.

It runs on your own machine, as ``kubectl proxy`` does: whoever can log in to it can go through
while it is open.

    $ ADMIN_TOKEN=… python -m threadkit.admin.door http://10.0.0.7:9000
    http://127.0.0.1:9009/debug/ leads to http://10.0.0.7:9000; Ctrl-C closes it
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import SplitResult, urlsplit

_PATIENCE: Final = 90.0
"""Seconds for an answer: the longest profile takes 60."""
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "server", "date"})


class Door(ThreadingHTTPServer):
    """Passes what comes to ``port`` of 127.0.0.1 on to ``target``, with ``token``."""

    daemon_threads = True

    def __init__(self, target: str, token: str, port: int = 9009) -> None:
        self.target: SplitResult = urlsplit(target)
        if self.target.scheme not in ("http", "https") or not self.target.hostname:
            msg = f"{target!r} is no address: write http://host:port"
            raise ValueError(msg)
        self.token = token
        super().__init__(("127.0.0.1", port), _Passing)

    @property
    def names(self) -> frozenset[str]:
        """What a browser may call it; a page from elsewhere may point its own name here."""
        return frozenset(f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))


class _Passing(BaseHTTPRequestHandler):
    server: Door

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
        """Nothing: the console asks every second."""

    def _pass_on(self, body: bytes) -> None:
        if self.headers.get("Host") not in self.server.names:
            self.send_error(403, "Another name than mine")
            return
        # Host and Origin go along as they are: the other side looks at them.
        headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP}
        headers["Authorization"] = f"Bearer {self.server.token}"
        try:
            answer = self._ask(body, headers)
        except OSError as error:
            self.send_error(502, "No answer", f"{self.server.target.netloc}: {error}")
            return
        with answer:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.end_headers()
            while chunk := answer.read1(64 * 1024):
                self.wfile.write(chunk)

    def _ask(self, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        target = self.server.target
        kind = (
            http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(target.hostname or "", target.port, timeout=_PATIENCE)
        connection.request(self.command, self.path, body, headers)
        return connection.getresponse()


def main(arguments: Sequence[str] | None = None) -> None:
    """Open the door until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m threadkit.admin.door", description=__doc__)
    parser.add_argument("target", help="the admin address, http://host:port")
    parser.add_argument("--port", type=int, default=9009, help="of 127.0.0.1 (9009)")
    given = parser.parse_args(arguments)
    token = os.environ.get("ADMIN_TOKEN")
    if not token:
        parser.error("set ADMIN_TOKEN in the environment, where other users cannot read it")
    with Door(given.target, token, given.port) as door:
        sys.stdout.write(
            f"http://127.0.0.1:{door.server_port}/debug/ leads to {given.target}; "
            "Ctrl-C closes it\n"
        )
        sys.stdout.flush()
        try:
            door.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
