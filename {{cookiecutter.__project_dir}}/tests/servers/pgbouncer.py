"""A real PgBouncer of the tests' own, in transaction mode, where the machine has one installed."""

from __future__ import annotations

from pathlib import Path

from .own import PostgresSpeaker
from .processes import find_program


class PgBouncer(PostgresSpeaker):
    """In front of a PostgreSQL at 127.0.0.1; lets everybody in, with ``size`` server connections.

    ``ignore``: start parameters that it drops; without, it refuses what it does not know.
    """

    name = "PgBouncer"

    def __init__(self, program: Path, *, upstream: int, size: int, ignore: str = "") -> None:
        self._program = program
        self._settings = (
            "[databases]\n"
            f"* = host=127.0.0.1 port={upstream} user=postgres\n"
            "[pgbouncer]\n"
            "listen_addr = 127.0.0.1\n"
            "unix_socket_dir =\n"
            "auth_type = any\n"
            "pool_mode = transaction\n"
            f"default_pool_size = {size}\n"
            f"ignore_startup_parameters = {ignore}\n"
        )
        super().__init__()

    @staticmethod
    def find() -> Path | None:
        """The program."""
        return find_program("pgbouncer", Path("/usr/sbin"), Path("/usr/bin"))

    def _start(self) -> None:
        settings = self._unprivileged.folder / "pgbouncer.ini"
        settings.write_text(f"{self._settings}listen_port = {self.port}\n")
        self.process = self._unprivileged.start(self._program, str(settings))
