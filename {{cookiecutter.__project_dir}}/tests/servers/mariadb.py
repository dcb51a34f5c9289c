"""A real MariaDB of the tests' own, where the machine has one installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .processes import Unprivileged, eventually, find_program, free_ports


class MariaDB:
    """Listens on 127.0.0.1 alone, with one user that needs no password."""

    def __init__(self, server: Path, install: Path) -> None:
        self._unprivileged = Unprivileged("mysql")
        self.process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)
        try:
            self._start(server, install)
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def find() -> tuple[Path, Path] | None:
        """The server and what makes its data folder."""
        places = (Path("/usr/sbin"), Path("/usr/bin"))
        server = find_program("mariadbd", *places)
        install = find_program("mariadb-install-db", *places)
        return (server, install) if server and install else None

    def _start(self, server: Path, install: Path) -> None:
        folder = self._unprivileged.folder
        data = self._unprivileged.make("data")
        self._unprivileged.run(
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        (folder / "init.sql").write_text(
            "CREATE USER tester@'127.0.0.1';\nGRANT ALL ON *.* TO tester@'127.0.0.1' "
            "WITH GRANT OPTION;\n"
        )
        self.process = self._unprivileged.start(
            server,
            "--no-defaults",
            f"--datadir={data}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--init-file={folder / 'init.sql'}",
            "--innodb-flush-log-at-trx-commit=0",
            "--max-connections=200",
        )
        eventually(self._accepts, what="MariaDB accepts connections")

    def _accepts(self) -> bool:
        import pymysql

        if self.process is None or self.process.poll() is not None:
            msg = f"MariaDB did not start: {self._unprivileged.log()}"
            raise RuntimeError(msg)
        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def create(self, name: str, *, like: str | None = None) -> str:
        """A new database; a copy has the tables and rows of ``like``, and its keys."""
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        if like is not None:
            for table in self.execute(f"SHOW TABLES FROM `{like}`"):
                self.execute(f"CREATE TABLE `{name}`.`{table}` LIKE `{like}`.`{table}`")
                self.execute(f"INSERT INTO `{name}`.`{table}` SELECT * FROM `{like}`.`{table}`")
        return f"mysql://tester@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> list[str]:
        """Run one statement; the first column of what it answers."""
        import pymysql

        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user="tester", autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return [str(row[0]) for row in cursor.fetchall()]
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop and delete the data."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)
        self._unprivileged.remove()
