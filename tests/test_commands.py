"""The two commands of the README, as a stranger types them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests import snapshot
from tests.conftest import Bake


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _environment() -> dict[str, str]:
    """Without what the outer make or a developer's shell would pass on."""
    unwanted = ("MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV", "LOG_", "DATABASE_URL")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    port, admin_port = _free_ports(2)
    return kept | {"BIND": f"127.0.0.1:{port}", "ADMIN_BIND": f"127.0.0.1:{admin_port}"}


def _status(address: str, path: str) -> int:
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


class Terminal:
    """A command in a process group of its own, as a terminal starts it."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.output = ""
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def read_until(self, text: str) -> None:
        """Block until a line has ``text``; the command must not end before."""
        assert self._process.stdout
        for line in self._process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"{text!r} never came:\n{self.output}")

    def finish(self, seconds: float) -> int:
        """The exit status, once it has ended by itself."""
        rest, _ = self._process.communicate(timeout=seconds)
        self.output += rest
        return self._process.returncode

    def control_c(self) -> None:
        """What the terminal does: an interrupt for every process of the group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate(timeout=30)


@contextmanager
def _terminal(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    terminal = Terminal(command, folder, environment)
    try:
        yield terminal
    finally:
        terminal.end()


@pytest.fixture
def project(bake: Bake, service: Path, tmp_path: Path) -> Path:
    """A bake of its own, whose .venv is the shared one and counts as installed."""
    folder = tmp_path / "my-service"
    shutil.copytree(bake(), folder)
    (folder / ".venv").mkdir()
    for path in service.iterdir():
        (folder / ".venv" / path.name).symlink_to(path)
    installed = [folder / "requirements" / "dev.txt", folder / "pyproject.toml"]
    (folder / ".venv" / ".installed").write_text("".join(p.read_text() for p in installed))
    return folder


def test_make_demo_serves_a_fresh_bake_twice_and_stops_cleanly(
    template: Path, tmp_path: Path
) -> None:
    """From a copy without git or environment: everything is made by the command itself."""
    folder = snapshot.copy(tmp_path / "clone", template)
    environment = _environment()
    for installs in (2, 0):
        with _terminal(["make", "demo"], folder, environment) as terminal:
            terminal.read_until("Listening at")
            assert _status(environment["BIND"], "/readyz") == 200
            assert _status(environment["ADMIN_BIND"], "/metrics") == 200
            terminal.control_c()
            # By the interrupt, or by the recipe's success, whichever make hears of first.
            assert terminal.finish(30) in (0, -signal.SIGINT)
        assert f"http://{environment['BIND']}" in terminal.output
        assert terminal.output.count("curl ") == 3
        assert "Traceback" not in terminal.output
        assert terminal.output.count("Installing ") == installs
        assert "***" not in terminal.output
    assert (folder / ".demo" / "my-service" / "var" / "app.db").is_file()
    assert {p.name for p in folder.iterdir()} - {p.name for p in template.iterdir()} == {
        *(".demo", ".venv")
    }


def test_make_run_says_in_one_line_that_a_port_is_in_use(project: Path) -> None:
    environment = _environment()
    host, _, port = environment["BIND"].rpartition(":")
    with (
        socket.create_server((host, int(port))),
        _terminal(["make", "run"], project, environment) as terminal,
    ):
        assert terminal.finish(30) == 2
    assert "Traceback" not in terminal.output
    assert terminal.output.count("another process listens") == 1
    (last,) = [line for line in terminal.output.splitlines() if line.startswith("make: ***")]
    assert last.endswith("Error 1")


def test_make_run_keeps_what_was_stored(project: Path) -> None:
    environment = _environment()
    for _ in range(2):
        with _terminal(["make", "run"], project, environment) as terminal:
            terminal.read_until("Listening at")
            assert _status(environment["BIND"], "/v1/items") == 200
            terminal.control_c()
            terminal.finish(30)
    assert (project / "var" / "app.db").is_file()


@pytest.mark.parametrize("target", ["install", "run", "test"])
def test_make_refuses_an_old_python_in_one_line(
    bake: Bake, template: Path, tmp_path: Path, target: str
) -> None:
    python = tmp_path / "python3.10"
    script = (
        "import sys; sys.version_info = (3, 10); sys.version = '3.10.1 (old)'; exec(sys.argv[1])"
    )
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}" "$2"\n')
    python.chmod(0o755)
    for folder in (shutil.copytree(bake(), tmp_path / "service"), template):
        result = subprocess.run(
            ["make", target if folder != template else "install", f"PYTHON={python}"],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 2
        message, makes_own = result.stderr.splitlines()
        assert f"needs Python 3.11 or newer, and {python} is 3.10.1: make PYTHON=" in message
        assert makes_own.startswith("make: ***")
        assert not (folder / ".venv").exists()


def test_make_revision_writes_a_migration_that_is_clean(project: Path) -> None:
    def make(*arguments: str) -> None:
        subprocess.run(
            ["make", *arguments], cwd=project, env=_environment(), capture_output=True, check=True
        )

    make("migrate")
    (model,) = (project / "src").glob("*/models/items.py")
    model.write_text(f"{model.read_text().rstrip()}\n    extra: Mapped[int | None]\n")
    make("revision", "m=add what's new")
    (written,) = (project / "migrations" / "versions").glob("*_add_what_s_new.py")
    ruff = str(project / ".venv" / "bin" / "ruff")
    for check in (["check"], ["format", "--check"]):
        subprocess.run([ruff, *check, "--no-cache", str(written)], cwd=project, check=True)
    make("migrate")


def test_make_revision_asks_what_changes(project: Path) -> None:
    result = subprocess.run(
        ["make", "revision"],
        cwd=project,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert 'make revision m="' in result.stderr


def test_make_help_names_every_target(bake: Bake, template: Path) -> None:
    for folder in (bake(), template):
        lines = (folder / "Makefile").read_text().splitlines()
        (phony,) = [line.removeprefix(".PHONY: ") for line in lines if line.startswith(".PHONY")]
        shown = subprocess.run(
            ["make"], cwd=folder, env=_environment(), capture_output=True, text=True, check=True
        ).stdout
        assert [line.split()[1] for line in shown.splitlines()] == phony.split()
