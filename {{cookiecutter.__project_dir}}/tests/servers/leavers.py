"""An application whose requests tell when they are cancelled, and the little its clients need."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .example import package

_SOURCE = """
import os, time
import flask
from {package}.app import create_app
from threadkit import deadline, sleep
from threadkit.concurrency import Cancelled

app = create_app()
notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(name):
    os.write(notes, f"{{name}} {{time.monotonic()}}\\n".encode())


@app.route("/wait/<name>/<float:seconds>", methods=["GET", "POST"])
def wait(name, seconds):
    try:
        sleep(seconds)
    except Cancelled:
        note(name)
        raise
    return name


@app.get("/stream/<name>")
@deadline(None)
def stream(name):
    def chunks():
        try:
            while True:
                yield b"x" * 10
                sleep(0.05)
        finally:
            note(name)
    return flask.Response(chunks())


@app.post("/size")
def size():
    return {{"size": len(flask.request.get_data())}}


@app.get("/peer")
def peer():
    return flask.request.environ.get("REMOTE_PORT", "")
"""

Notes = Callable[[], dict[str, float]]


def leavers(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment with which gunicorn serves it; ``notes`` reads what it tells."""
    (folder / "leavers.py").write_text(_SOURCE.format(package=package()))
    environ = {
        "PYTHONPATH": str(folder),
        "NOTES": str(folder / "notes"),
        "REQUEST_TIMEOUT": "20",
        # On a busy machine a request may wait for long, and is meant to be answered then.
        "QUEUE_TIMEOUT": "10",
    }
    return ["-c", "gunicorn.conf.py", "leavers:app"], environ


def notes(folder: Path) -> list[tuple[str, float]]:
    """Which requests were cancelled, and when; a client's clock is the service's."""
    path = folder / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, float(when)) for name, when in map(str.split, lines)]


def connect(port: int) -> socket.socket:
    """A connection on which nothing was said yet."""
    return socket.create_connection(("127.0.0.1", port), 10)


def request(path: str, extra: str = "", body: bytes = b"", method: str = "GET") -> bytes:
    """The bytes of a request; ``extra`` header lines end with CRLF."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode() + body


def read_answer(answers: IO[bytes]) -> bytes:
    """The status line of one answer with a Content-Length, which is read to its end."""
    status, length = answers.readline(), 0
    while (line := answers.readline()).strip():
        if line.lower().startswith(b"content-length"):
            length = int(line.split(b":")[1])
    assert len(answers.read(length)) == length
    return status
