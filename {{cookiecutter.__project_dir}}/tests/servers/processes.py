"""Starting and stopping real servers: ports, users, and waiting without sleeping blindly."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens, all different."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


def eventually(ask: Callable[[], T], *, what: str, seconds: float = 20.0) -> T:
    """Ask until the answer is true, and return it. The one place where tests poll."""
    until = time.monotonic() + seconds
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > until:
            msg = f"{what}: not within {seconds} s"
            raise TimeoutError(msg)
        time.sleep(0.02)


def migrate(url: str) -> None:
    """What ``make migrate`` does, for ``url``."""
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url},
        check=True,
        capture_output=True,
        timeout=60,
    )


class Unprivileged:
    """Runs a database server, which refuses to run as root, as somebody else if we are.

    Owns a folder that this user can write to; pytest's own folders are closed to others.
    """

    def __init__(self, *names: str) -> None:
        self._user: pwd.struct_passwd | None = None
        if os.geteuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            self._user = next(known[name] for name in (*names, "nobody") if name in known)
        self.folder = Path(tempfile.mkdtemp(prefix="test-server-"))
        self._own(self.folder)

    def make(self, name: str) -> Path:
        """An empty folder for the server."""
        path = self.folder / name
        path.mkdir()
        self._own(path)
        return path

    def reachable(self, program: Path, *libraries: Path) -> Path:
        """``program``, or a copy of its installation where its user may not go.

        ``libraries`` are folders that it finds by their place beside the installation.
        """
        if self.run(program, "--version", check=False):
            return program
        installation = program.parents[1]
        base = Path(os.path.commonpath([installation, *libraries]))
        copy = self.folder / "installed"
        for folder in (installation, *libraries):
            shutil.copytree(folder, copy / folder.relative_to(base), symlinks=True)
        return copy / program.relative_to(base)

    def run(self, program: Path, *arguments: str, check: bool = True) -> bool:
        """Run a program to its end; whether it succeeded."""
        try:
            done = subprocess.run(
                [program, *arguments],
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        except PermissionError:
            if check:
                raise
            return False
        if check and done.returncode:
            msg = f"{program.name} failed: {done.stdout}{done.stderr}"
            raise RuntimeError(msg)
        return done.returncode == 0

    def start(self, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a server; its output goes to ``log`` in the folder."""
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                [program, *arguments],
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        """What the server has written."""
        return (self.folder / "log").read_text(errors="replace")

    def remove(self) -> None:
        """Delete the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _own(self, path: Path) -> None:
        if self._user:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)


def find_program(name: str, *places: Path) -> Path | None:
    """``name`` in PATH, or else in the last (newest, by name) of ``places`` that has it."""
    if found := shutil.which(name):
        return Path(found).resolve()
    return next((place / name for place in reversed(places) if (place / name).is_file()), None)
