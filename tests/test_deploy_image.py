"""What the Dockerfile builds serves, is found healthy, and stops as its orchestrators expect.

No container engine is needed: the instructions are carried out in a folder that stands for
the image's file system, with the Python that runs the tests. That leaves out the base image
itself and the isolation of a container (user, read-only root).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Bake

PATIENCE = 30.0
MIGRATE = ["alembic", "upgrade", "head"]


@dataclass
class Image:
    """A file system and what the image says about starting in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()
    health_check: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def start(self, command: list[str], settings: Mapping[str, str]) -> subprocess.Popen[str]:
        """A process of a container of this image; it inherits nothing of the tests'."""
        environment = self.environment | {"HOME": "/nonexistent", "TMPDIR": str(self.root / "tmp")}
        environment |= settings
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None, command
        return subprocess.Popen(
            [program, *command[1:]],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: list[str], settings: Mapping[str, str]) -> tuple[int, str]:
        """A process that ends by itself: its exit code and all that it wrote."""
        with self.start(command, settings) as process:
            output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def files(self) -> dict[Path, int]:
        """All files but those that a container may write to, with their time of change."""
        writable = {self.root / "tmp", self.folder / "var"}
        return {
            path: path.stat().st_mtime_ns
            for path in self.root.rglob("*")
            if path.is_file() and not writable & {*path.parents}
        }


def _instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, argument = line.strip().partition(" ")
        if instruction:
            yield instruction, argument.strip()


class Builder:
    """Carries out a Dockerfile's instructions in ``root``, one stage after the other there."""

    def __init__(self, project: Path, root: Path) -> None:
        self._project = project
        self._stages = root.with_name(f"{root.name}-stages")
        self._name = ""
        self.image = Image(root)

    def build(self) -> Image:
        for instruction, argument in _instructions(self._project / "Dockerfile"):
            getattr(self, f"_{instruction.lower()}")(argument)
        (self.image.root / "tmp").mkdir()
        return self.image

    def _from(self, argument: str) -> None:
        # A finished stage moves away, so that each has the same paths, as in an image.
        if self._name:
            self._stages.mkdir(exist_ok=True)
            self.image.root.rename(self._stages / self._name)
        self._name = argument.partition(" AS ")[2] or "final"
        self.image.root.mkdir()
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.image.environment = {"PATH": path}
        self.image.folder = self.image.root

    def _inside(self, path: str) -> Path:
        return self.image.root / path[1:] if path.startswith("/") else self.image.folder / path

    def _workdir(self, argument: str) -> None:
        self.image.folder = self._inside(argument)
        self.image.folder.mkdir(parents=True)

    def _copy(self, argument: str) -> None:
        *words, target = argument.split()
        source = self._project
        if words[0].startswith("--from="):
            source = self._stages / words.pop(0).removeprefix("--from=")
        for word in words:
            original = source / word.lstrip("/")
            destination = self._inside(target)
            if original.is_dir():
                shutil.copytree(original, destination, symlinks=True)
            else:
                destination = destination / original.name if target.endswith("/") else destination
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(original, destination)

    def _run(self, argument: str) -> None:
        if "useradd" in argument:
            return  # the user of the tests stays who they are
        script = re.sub(r"--mount=\S+|--(owner|group)=\d+", "", argument)
        script = script.replace("/opt/venv", str(self._inside("/opt/venv")))
        environment = os.environ | self.image.environment
        subprocess.run(["sh", "-c", script], cwd=self.image.folder, env=environment, check=True)

    def _env(self, argument: str) -> None:
        for assignment in argument.split():
            name, _, value = assignment.partition("=")
            value = value.replace("/opt/venv", str(self._inside("/opt/venv")))
            value = value.replace("$PATH", self.image.environment["PATH"])
            self.image.environment[name] = value

    def _healthcheck(self, argument: str) -> None:
        self.image.health_check = json.loads(argument.partition("CMD ")[2])

    def _cmd(self, argument: str) -> None:
        self.image.command = json.loads(argument)

    def _user(self, argument: str) -> None:
        assert not argument.startswith("0")

    def _expose(self, argument: str) -> None:
        assert argument == self.image.environment["BIND"].rpartition(":")[2]

    def _stopsignal(self, argument: str) -> None:
        assert argument == "SIGTERM"


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _status(port: int, path: str) -> int | None:
    """What it answers; None while it does not."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        threading.Event().wait(0.05)


@dataclass
class Container:
    """A running service, and where it listens."""

    image: Image
    settings: dict[str, str]
    process: subprocess.Popen[str]
    port: int
    admin_port: int

    def healthy(self) -> bool:
        assert self.process.poll() is None, "the service ended by itself"
        return self.image.run(self.image.health_check, self.settings)[0] == 0

    def stop(self, *, within: float) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=within)
        return self.process.returncode, output


@contextmanager
def _container(image: Image, settings: Mapping[str, str]) -> Iterator[Container]:
    """The image's own command, in its environment; only the ports are the tests'."""
    port, admin_port = _free_port(), _free_port()
    present = dict(settings)
    present["BIND"] = image.environment["BIND"].replace(":8000", f":{port}")
    present["ADMIN_BIND"] = settings.get("ADMIN_BIND", "127.0.0.1:9000").replace(
        ":9000", f":{admin_port}"
    )
    with image.start(image.command, present) as process:
        try:
            yield Container(image, present, process, port, admin_port)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def image(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Image:
    project = bake(deploy="docker")
    return Builder(project, tmp_path_factory.mktemp("image") / "root").build()


@pytest.fixture
def data(image: Image) -> Path:
    """An empty volume."""
    var = image.folder / "var"
    shutil.rmtree(var)
    var.mkdir()
    return var


@pytest.fixture(scope="session")
def compose(bake: Bake) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((bake(deploy="docker") / "compose.yaml").read_text())
    return content


@pytest.fixture(scope="session")
def kubernetes(bake: Bake) -> dict[str, Any]:
    folder = bake(deploy="kubernetes") / "deploy" / "kubernetes"
    return {p.name.partition(".")[0]: yaml.safe_load(p.read_text()) for p in folder.iterdir()}


def test_the_environment_holds_no_installer(image: Image) -> None:
    environment = image.root / "opt" / "venv"
    assert (environment / "bin" / "gunicorn").is_file()
    assert not list(environment.glob("bin/pip*"))


def test_every_module_comes_with_byte_code_that_is_never_checked(image: Image) -> None:
    for source in (image.folder / "src").rglob("*.py"):
        (compiled,) = source.parent.glob(f"__pycache__/{source.stem}.*.pyc")
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", "hashed, and not checked"


def test_the_health_check_fails_while_nothing_listens(image: Image) -> None:
    code, _ = image.run(image.health_check, {"BIND": f"127.0.0.1:{_free_port()}"})
    assert code == 1


@pytest.mark.usefixtures("data")
def test_compose_migrates_serves_and_stops_in_time(image: Image, compose: dict[str, Any]) -> None:
    web = compose["services"]["web"]
    code, output = image.run(compose["services"]["migrate"]["command"], web["environment"])
    assert code == 0, output
    before = image.files()
    with _container(image, web["environment"]) as service:
        _eventually(service.healthy)
        assert _status(service.port, "/readyz") == 200
        assert _status(service.port, "/v1/items") == 200
        grace = float(web["stop_grace_period"].removesuffix("s"))
        code, output = service.stop(within=grace)
    assert code == 0, output
    assert [json.loads(line)["level"] for line in output.splitlines()], "a line that is no JSON"
    assert image.files() == before, "it writes outside /tmp and var"


@pytest.mark.usefixtures("data")
def test_a_pod_is_alive_at_once_and_ready_once_it_is_migrated(
    image: Image, kubernetes: dict[str, Any]
) -> None:
    pod = kubernetes["deployment"]["spec"]["template"]["spec"]
    (web,) = pod["containers"]
    settings = kubernetes["configmap"]["data"] | {"ADMIN_TOKEN": "a token of these tests"}
    with _container(image, settings) as service:
        port = service.admin_port
        _eventually(lambda: _status(port, web["livenessProbe"]["httpGet"]["path"]) == 200)
        assert _status(port, web["readinessProbe"]["httpGet"]["path"]) == 503
        code, output = image.run(MIGRATE, settings)
        assert code == 0, output
        _eventually(lambda: _status(port, web["readinessProbe"]["httpGet"]["path"]) == 200)
        assert _status(port, "/metrics") == 404, "that needs the token"
        pre_stop = web["lifecycle"]["preStop"]["sleep"]["seconds"]
        code, output = service.stop(within=pod["terminationGracePeriodSeconds"] - pre_stop)
    assert code == 0, output


def test_the_secret_that_is_an_example_starts_nothing(
    image: Image, kubernetes: dict[str, Any]
) -> None:
    settings = kubernetes["configmap"]["data"] | kubernetes["secret"]["stringData"]
    code, output = image.run(image.command, settings)
    assert code != 0
    assert "ADMIN_TOKEN" in output
