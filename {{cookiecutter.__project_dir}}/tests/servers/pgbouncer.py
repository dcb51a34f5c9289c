"""A real PgBouncer of the tests' own, in transaction mode, where the machine has one installed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from .processes import Unprivileged, eventually, find_program, free_ports


class PgBouncer:
    """In front of a PostgreSQL at 127.0.0.1; lets everybody in, with ``size`` server connections.

    ``ignore``: start parameters that it drops; without, it refuses what it does not know.
    """

    def __init__(self, program: Path, *, upstream: int, size: int, ignore: str = "") -> None:
        self._unprivileged = Unprivileged("postgres")
        self.process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)
        try:
            self._start(program, upstream, size, ignore)
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def find() -> Path | None:
        """The program."""
        return find_program("pgbouncer", Path("/usr/sbin"), Path("/usr/bin"))

    def _start(self, program: Path, upstream: int, size: int, ignore: str) -> None:
        settings = self._unprivileged.folder / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={upstream} user=postgres\n"
            "[pgbouncer]\n"
            "listen_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\n"
            "unix_socket_dir =\n"
            "auth_type = any\n"
            "pool_mode = transaction\n"
            f"default_pool_size = {size}\n"
            f"ignore_startup_parameters = {ignore}\n"
        )
        self.process = self._unprivileged.start(program, str(settings))
        eventually(self._accepts, what="PgBouncer accepts connections")

    def _accepts(self) -> bool:
        import psycopg

        if self.process is None or self.process.poll() is not None:
            msg = f"PgBouncer did not start: {self._unprivileged.log()}"
            raise RuntimeError(msg)
        try:
            psycopg.connect(self.address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def address(self, database: str) -> str:
        """Of a database through it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """Stop at once, and delete its folder."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)
        self._unprivileged.remove()
